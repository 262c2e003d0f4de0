package renewal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// Health is the state of one certificate in one word. The values are stable.
type Health string

// The states, the worst first.
const (
	HealthExpired      Health = "expired"       // the active certificate is no longer valid
	HealthMissing      Health = "missing"       // there is no usable certificate
	HealthRevoked      Health = "revoked"       // the active version was revoked
	HealthFailing      Health = "failing"       // the last order failed
	HealthHeld         Health = "held"          // a newer version waits for the operator, or an earlier one is pinned
	HealthNotInstalled Health = "not-installed" // a target does not serve the active version
	HealthHookFailed   Health = "hook-failed"   // all is served, the hook after it failed
	HealthOK           Health = "ok"
)

// Status describes one certificate. Its JSON form is stable: fields are added, never changed.
type Status struct {
	Name     string            `json:"name"`
	Names    []string          `json:"names"`
	Health   Health            `json:"health"`
	Version  string            `json:"version,omitempty"`
	Serial   string            `json:"serial,omitempty"`
	Issuer   string            `json:"issuer,omitempty"`
	KeyTypes []certs.KeyType   `json:"key_types,omitempty"`
	From     time.Time         `json:"not_before,omitzero"`
	NotAfter time.Time         `json:"not_after,omitzero"`
	Renewal  *RenewalStatus    `json:"renewal,omitempty"` // nil without a usable certificate
	Chain    []LinkStatus      `json:"chain,omitempty"`   // the certificate first; only in the answer of Detail
	Reason   plan.Reason       `json:"reason"`            // why the next action is what it is
	Message  string            `json:"message"`
	Order    bool              `json:"order,omitempty"` // the next action is a new order
	Next     time.Time         `json:"next,omitzero"`   // when that is
	Failures int               `json:"failures,omitempty"`
	Error    string            `json:"error,omitempty"`
	Code     advice.Code       `json:"code,omitempty"` // of Error, or of why a version waits; see acmed explain
	RetryAt  time.Time         `json:"retry_at,omitzero"`
	Targets  []TargetStatus    `json:"targets,omitempty"`
	Hook     *HookStatus       `json:"hook,omitempty"`    // nil unless the hook after the last version has yet to succeed
	Revoked  *RevokedStatus    `json:"revoked,omitempty"` // nil unless a version was revoked that is active, or that the CA has yet to revoke
	Pinned   string            `json:"pinned,omitempty"`  // version that a rollback keeps live
	Held     *HeldStatus       `json:"held,omitempty"`    // the version that waits
	Solved   map[string]string `json:"solved,omitempty"`  // identifier to the solver that validated it
	Versions []VersionStatus   `json:"versions,omitempty"`
	Fleet    *FleetStatus      `json:"fleet,omitempty"`    // nil on a single machine
	Running  bool              `json:"running,omitempty"`  // a job is at work
	Warnings []string          `json:"warnings,omitempty"` // what will stand in the way of a renewal
	Notes    []string          `json:"notes,omitempty"`

	// Validations say how each name of the active version was validated, and why so.
	Validations []certs.Validation `json:"validations,omitempty"`

	// Trust says what the configured clients make of the active version; only in the answer of Detail.
	Trust []TrustStatus `json:"trust,omitempty"`
}

// VersionStatus is one stored version.
type VersionStatus struct {
	ID       string    `json:"id"`
	Active   bool      `json:"active,omitempty"`
	Revoked  bool      `json:"revoked,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	From     time.Time `json:"not_before,omitzero"`
	NotAfter time.Time `json:"not_after"`
}

// TargetStatus is one install target.
type TargetStatus struct {
	ID         string      `json:"id"`
	Installed  bool        `json:"installed"`     // serves the active version, as last seen
	Off        bool        `json:"off,omitempty"` // an operator took it away
	VerifiedAt time.Time   `json:"verified_at,omitzero"`
	Error      string      `json:"error,omitempty"`
	Code       advice.Code `json:"code,omitempty"`
	RetryAt    time.Time   `json:"retry_at,omitzero"`
}

// HeldStatus is a stored version that is not live yet.
type HeldStatus struct {
	Version string    `json:"version"`
	Clients []string  `json:"clients,omitempty"` // trust stores that would refuse it
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"` // when it becomes active, or the hold has become an outage
}

// RevokedStatus is a version that an operator revoked.
type RevokedStatus struct {
	Version string      `json:"version"`
	Reason  string      `json:"reason,omitempty"`
	At      time.Time   `json:"at"`               // when the operator asked
	DoneAt  time.Time   `json:"done_at,omitzero"` // when the CA did it; zero: acmed asks again at RetryAt
	Kept    bool        `json:"kept,omitempty"`   // the operator wants no replacement
	Error   string      `json:"error,omitempty"`
	Code    advice.Code `json:"code,omitempty"`
	RetryAt time.Time   `json:"retry_at,omitzero"`
}

// HookStatus is the hook after a new version that has not succeeded yet.
type HookStatus struct {
	Failures int         `json:"failures,omitempty"`
	Error    string      `json:"error,omitempty"`
	Code     advice.Code `json:"code,omitempty"`
	RetryAt  time.Time   `json:"retry_at,omitzero"`
}

// Status looks one certificate up. It reads the state and changes nothing.
func (e *Engine) Status(name string) (Status, error) {
	c, ok := e.Certificate(name)
	if !ok {
		return Status{}, fmt.Errorf("certificate %q is not in the configuration", name)
	}
	r, opts, err := e.look(&c)
	if err != nil {
		return Status{}, err
	}
	have, now := r.Lineage, e.clock()
	e.noteStored(have)
	p := plan.Decide(now, &c.Spec, have, opts)
	s := Status{
		Name: name, Names: c.Spec.Names(), Reason: p.Reason, Message: p.Message, Order: p.Obtain, Next: p.Next,
		Failures: have.State.Failures, Error: have.State.LastError, Code: have.State.LastCode, RetryAt: have.State.RetryAt,
		Solved: have.State.Solved, Warnings: slices.Concat(have.State.Warnings, tlsaWarning(&c, have), ignored(&c.Spec, have), chainsWarning(have)), Notes: slices.Clip(have.Notes), Running: e.running(name),
	}
	e.applyFailure(&s)
	fillVersions(&s, have)
	fillTargets(&s, &c.Spec, have)
	fillHold(&s, have)
	fillRevoked(&s, have)
	s.Fleet = e.fleetStatus(r)
	s.Renewal = renewalOf(&c.Spec, have)
	if h := have.State.Hook; h != nil && c.Hooks.Post != nil {
		s.Hook = &HookStatus{Failures: h.Failures, Error: h.LastError, Code: h.LastCode, RetryAt: h.RetryAt}
	}
	s.Health = health(now, &s, have)
	return s, nil
}

// ignored lists what the CA ignored and the configuration still asks for.
func ignored(want *certs.Spec, have *store.Lineage) (list []string) {
	for _, text := range have.State.Ignored {
		setting, _, _ := strings.Cut(text, ":")
		if setting == "lifetime" && want.Lifetime > 0 || setting == "must_staple" && want.MustStaple || setting == "preferred_chain" && want.PreferredChain != "" {
			list = append(list, text)
		}
	}
	return list
}

func (e *Engine) running(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.jobs[name]
	return ok
}

func fillVersions(s *Status, have *store.Lineage) {
	for _, v := range have.Versions {
		s.Versions = append(s.Versions, VersionStatus{
			ID: v.ID, Active: v.ID == have.Version, Revoked: !have.State.Revoked[v.ID].At.IsZero(), Issuer: v.Issuer, Created: v.Created, From: v.NotBefore, NotAfter: v.NotAfter,
		})
	}
	b := have.Current
	if b == nil {
		return
	}
	s.Version, s.Serial, s.Issuer = have.Version, b.Serial(), b.Issuer
	s.Validations = b.Validations
	s.From, s.NotAfter = b.Leaf.NotBefore, b.Leaf.NotAfter
	for _, leaf := range b.Leaves() {
		s.KeyTypes = append(s.KeyTypes, certs.KeyTypeOf(leaf.PublicKey))
	}
}

func fillTargets(s *Status, want *certs.Spec, have *store.Lineage) {
	for _, id := range want.Targets {
		t := have.State.Installed[id]
		s.Targets = append(s.Targets, TargetStatus{
			ID: id, Off: t.Off, VerifiedAt: t.VerifiedAt, Error: t.LastError, Code: t.LastCode, RetryAt: t.RetryAt,
			Installed: have.Current != nil && t.Fingerprint == have.Current.Fingerprint(),
		})
		for _, note := range t.Notes {
			s.Notes = append(s.Notes, id+": "+note)
		}
	}
}

func fillHold(s *Status, have *store.Lineage) {
	st := &have.State
	if st.Pinned != "" && st.Pinned == have.Version {
		s.Pinned = st.Pinned
	}
	if h := st.Held; h != nil && have.Current != nil && h.Version != have.Version {
		s.Held = &HeldStatus{Version: h.Version, Clients: h.Clients, Reason: h.Reason, Since: h.Since, Until: plan.ReleaseTime(have, h)}
		if s.Code == "" {
			s.Code = heldCode(h)
		}
	}
}

// fillRevoked shows the active version if it was revoked, else one that the CA has yet to revoke.
func fillRevoked(s *Status, have *store.Lineage) {
	for id, rev := range have.State.Revoked {
		if id != have.Version && !rev.DoneAt.IsZero() || s.Revoked != nil && id != have.Version {
			continue
		}
		s.Revoked = &RevokedStatus{
			Version: id, Reason: rev.Reason, At: rev.At, DoneAt: rev.DoneAt, Kept: rev.Keep, Error: rev.LastError, Code: rev.LastCode, RetryAt: rev.RetryAt,
		}
	}
}

func notServing(t TargetStatus) bool { return !t.Off && (!t.Installed || t.Error != "") }

func health(now time.Time, s *Status, have *store.Lineage) Health {
	switch {
	case have.Current == nil:
		return HealthMissing
	case !now.Before(s.NotAfter):
		return HealthExpired
	case s.Revoked != nil && s.Revoked.Version == s.Version:
		return HealthRevoked
	case s.Error != "" || s.Revoked != nil && s.Revoked.Error != "":
		return HealthFailing
	case s.Reason == plan.ReasonHeld, s.Reason == plan.ReasonPinned:
		return HealthHeld
	case slices.ContainsFunc(s.Targets, notServing):
		return HealthNotInstalled
	case s.Hook != nil && s.Hook.Error != "":
		return HealthHookFailed
	}
	return HealthOK
}
