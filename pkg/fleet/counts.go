package fleet

import (
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Facts are what decides which configuration counts for one certificate on one node.
type Facts struct {
	Spec       string     // hash of the configuration in use
	ActiveSpec string     // hash under which the active version was obtained or adopted; "" if there is none
	Changed    bool       // this node's configuration changed since ActiveSpec was recorded, here and not elsewhere
	ActiveFits bool       // the active version is exactly what the configuration asks for
	Active     certs.Head // number, fingerprint and dates of the active version; N 0: it never was in the fleet, or there is none
	Unshared   bool       // the active version was obtained here and not committed; Active.N is the number that it was based on
	Head       certs.Head
	HeadDue    bool     // the head's version is due for renewal
	HeadNames  []string // all names of the head's version
	Names      []string // of the configuration
	Now        time.Time
}

// Verdict is which configuration counts, and what follows from it.
type Verdict struct {
	Adopt      bool     // take the head's version
	Missing    []string // names that it lacks: fewer names are better than none
	Record     bool     // only record the hash: a version that fits exists already
	Reorder    bool     // the names changed: neither version fits
	Superseded bool     // this node has an older configuration than the fleet: it does not claim
}

// Judge decides which configuration counts. A rolling change costs one order, and a node that was left behind does not bring
// the old names back.
func Judge(f Facts) Verdict {
	var v Verdict
	headFits := f.Head.N > 0 && f.Head.Spec == f.Spec && !f.Head.Void
	differs := f.ActiveSpec != "" && f.ActiveSpec != f.Spec
	v.Superseded = slices.Contains(f.Head.Old, f.Spec) && !differs && !f.Head.InLastTenth(f.Now)
	v.Adopt, v.Missing = adopts(f, headFits)
	v.Record = differs && (f.ActiveFits || headFits)
	v.Reorder = differs && !v.Record && !v.Superseded
	return v
}

// adopts reports whether the node takes the head's version, and what that lacks.
func adopts(f Facts, headFits bool) (bool, []string) {
	switch {
	case f.Head.N == 0, f.Head.Void, !f.Now.Before(f.Head.NotAfter), f.Head.Fingerprint == f.Active.Fingerprint:
		return false, nil
	case f.Unshared && (f.Head.N <= f.Active.N || f.HeadDue):
		return false, nil
	case !f.Unshared && !f.Head.Newer(&f.Active):
		return false, nil
	}
	missing := Uncovered(f.Names, f.HeadNames)
	if headFits || len(missing) == 0 {
		return true, nil
	}
	return !f.Unshared && f.Active.InLastTenth(f.Now) && f.Head.NotAfter.After(f.Active.NotAfter), missing
}

// Uncovered lists the names that a certificate with the names in have is not valid for, in the order of want.
func Uncovered(want, have []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(have, name) })
}
