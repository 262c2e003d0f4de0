package certs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/openjson"
	"github.com/acmed/acmed/pkg/advice"
)

// Head is what the nodes of a fleet know together about one certificate: which version is the newest, and what happened on
// the way to the next one. The zero Head stands for a certificate that no node has obtained yet. Fields that a later
// release added are kept through [ParseHead] and [Head.Encode].
type Head struct {
	N           int64     `json:"n,omitzero"`           // number of the version; newer means greater; 0: no version yet
	Fingerprint string    `json:"fingerprint,omitzero"` // of the bundle, see [Bundle.Fingerprint]
	Names       []string  `json:"names,omitempty"`      // up to 10 of the certificate's names
	NamesTotal  int       `json:"names_total,omitzero"` // if there are more than Names lists
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Spec        string    `json:"spec,omitzero"` // hash of the configuration that the version answers, see [Spec.Hash]
	Old         []string  `json:"old,omitempty"` // hashes that Spec replaced, the latest last; at most 8
	Committed   time.Time `json:"committed,omitzero"`
	By          string    `json:"by,omitzero"`     // nonce of the claim under which the version was committed
	Node        string    `json:"node,omitzero"`   // that committed it
	Served      string    `json:"served,omitzero"` // node that installed it first and saw it served; "" until then
	ServedAt    time.Time `json:"served_at,omitzero"`
	Broken      string    `json:"broken,omitzero"` // why a node took it back from a server; the others keep what they serve
	Void        bool      `json:"void,omitzero"`   // the version was deleted, because others may know its key

	RenewAt    time.Time `json:"renew_at,omitzero"` // chosen at random in the CA's window
	ARICheckAt time.Time `json:"ari_check_at,omitzero"`
	ARIStart   time.Time `json:"ari_start,omitzero"`
	ARIEnd     time.Time `json:"ari_end,omitzero"`
	ARIURL     string    `json:"ari_url,omitzero"`

	Attempts     int                    `json:"attempts,omitzero"`
	Failures     int                    `json:"failures,omitzero"`
	RetryAt      time.Time              `json:"retry_at,omitzero"`
	FailingSince time.Time              `json:"failing_since,omitzero"`
	LastError    string                 `json:"last_error,omitzero"`
	LastErrorAt  time.Time              `json:"last_error_at,omitzero"`
	LastCode     advice.Code            `json:"last_code,omitzero"`
	Issued       []time.Time            `json:"issued,omitempty"`  // issuances of the last day
	Invalid      map[string][]time.Time `json:"invalid,omitempty"` // identifier to its failed validations of the last hour
	Down         map[string]time.Time   `json:"down,omitempty"`    // issuer to the time since when it is unavailable

	Asked     *Asked   `json:"asked,omitempty"`
	Condemned []string `json:"condemned,omitempty"` // SHA-256 of public keys that others may know

	raw string // as it was read; "" if it is not in the ledger
}

// Asked is a renewal that an operator requested on some node.
type Asked struct {
	At     time.Time `json:"at,omitzero"`
	Force  bool      `json:"force,omitzero"`
	NewKey bool      `json:"new_key,omitzero"`
}

// The bounds on what a head lists.
const (
	maxHeadNames = 10
	maxHeadOld   = 8
)

// ParseHead reads a head as [Head.Encode] wrote it, here or in another release. With an error it returns a head without a
// version that still compares as the text that was read, so that it can be replaced.
func ParseHead(text []byte) (Head, error) {
	h := Head{raw: string(text)}
	if err := json.Unmarshal(text, &h); err != nil {
		return Head{raw: string(text)}, fmt.Errorf("the head cannot be read: %w", err)
	}
	if h.N < 0 {
		return Head{raw: string(text)}, fmt.Errorf("the head has the number %d", h.N)
	}
	return h, nil
}

// Raw returns the text from which the head was parsed, "" for one that was not. It does not follow changes.
func (h *Head) Raw() string { return h.raw }

// Follow makes h a successor of the head that was read: it keeps that one's unknown fields.
func (h *Head) Follow(read Head) { h.raw = read.raw }

// Encode returns the head as JSON, with the unknown fields of the text from which it was parsed.
func (h *Head) Encode() ([]byte, error) { return openjson.Marshal(h, []byte(h.raw)) }

// Clone returns a copy that shares nothing with h.
func (h *Head) Clone() Head {
	c := *h
	c.Names, c.Old, c.Issued, c.Condemned = slices.Clone(h.Names), slices.Clone(h.Old), slices.Clone(h.Issued), slices.Clone(h.Condemned)
	c.Invalid, c.Down = maps.Clone(h.Invalid), maps.Clone(h.Down)
	if h.Asked != nil {
		asked := *h.Asked
		c.Asked = &asked
	}
	return c
}

// SetVersion makes b, which answers the configuration with the given hash, the head's version n. What belonged to the
// version before, its renewal window and the node that served it, is cleared. A configuration that b replaces goes to Old;
// one that comes back leaves it.
func (h *Head) SetVersion(n int64, b *Bundle, spec string) {
	if h.Spec != "" && h.Spec != spec {
		h.Old = append(slices.DeleteFunc(slices.Clone(h.Old), func(s string) bool { return s == h.Spec }), h.Spec)
	}
	seen := map[string]bool{spec: true}
	h.Old = slices.DeleteFunc(slices.Clone(h.Old), func(s string) bool { again := seen[s]; seen[s] = true; return again })
	h.Old = h.Old[max(0, len(h.Old)-maxHeadOld):]
	h.N, h.Spec, h.Fingerprint = n, spec, b.Fingerprint()
	h.NotBefore, h.NotAfter = b.Leaf.NotBefore, b.Leaf.NotAfter
	names := LeafNames(b.Leaf)
	h.NamesTotal = 0
	if len(names) > maxHeadNames {
		h.NamesTotal = len(names)
	}
	h.Names = names[:min(len(names), maxHeadNames)]
	h.RenewAt, h.ARICheckAt, h.ARIStart, h.ARIEnd, h.ARIURL = time.Time{}, time.Time{}, time.Time{}, time.Time{}, ""
	h.Served, h.ServedAt, h.Broken, h.Void = "", time.Time{}, "", false
}

// Newer reports whether h is to be preferred to other: the greater number, and after a ledger was restored from a backup,
// when one number was given twice, the later beginning, then the greater fingerprint.
func (h *Head) Newer(other *Head) bool {
	switch {
	case h.N != other.N:
		return h.N > other.N
	case !h.NotBefore.Equal(other.NotBefore):
		return h.NotBefore.After(other.NotBefore)
	}
	return h.Fingerprint > other.Fingerprint
}

// InLastTenth reports whether at most a tenth of the version's lifetime remains. A head without a version has none left.
func (h *Head) InLastTenth(now time.Time) bool {
	return h.NotAfter.IsZero() || !now.Before(h.NotAfter.Add(-h.NotAfter.Sub(h.NotBefore)/10))
}
