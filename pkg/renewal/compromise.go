package renewal

import (
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

func isCompromised(have *store.Lineage) bool {
	return have.Version != "" && slices.Contains(have.State.Compromised, have.Version)
}

// compromised makes a certificate due whose replacement could not be had at once.
func compromised(in *input) (verdict, bool) {
	return verdict{ReasonCompromised, "others may know the private key"}, isCompromised(in.have)
}

// condemn notes, when a new key is wanted, every stored version that has a key of the active one, or cannot be read to
// tell: none of them is ever used again, and with the next active version they are removed.
func (j *job) condemn(lineage *store.Lineage) {
	st, active := &lineage.State, lineage.Current
	if !j.opts.NewKey || active == nil {
		return
	}
	for _, v := range lineage.Versions {
		if slices.Contains(st.Compromised, v.ID) {
			continue
		}
		if b, err := j.engine.store.Bundle(j.want.Name, v.ID); err != nil || sharesKey(active, b) {
			st.Compromised = append(st.Compromised, v.ID)
		}
	}
	st.Held, st.Pinned = nil, ""
}

func sharesKey(a, b *certs.Bundle) bool {
	for _, one := range a.Leaves() {
		for _, other := range b.Leaves() {
			if certs.SameKey(one.PublicKey, other.PublicKey) {
				return true
			}
		}
	}
	return false
}
