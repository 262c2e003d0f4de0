package fleet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/internal/openjson"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// metaSchema is the version of the keys and values.
const metaSchema = 1

const knownText = "acmed fleet"

// meta is what a fleet begins with.
type meta struct {
	Schema int               `json:"schema"`
	ID     string            `json:"id"`
	Min    string            `json:"min,omitempty"` // oldest release that may order; raised by an operator only
	Keys   map[string][]byte `json:"keys"`          // seal key ID to a known text, sealed with it

	raw []byte
}

// NoFleetError says that nothing was prepared in the store for this fleet.
type NoFleetError struct{ Fleet string }

// Error says what to do.
func (e *NoFleetError) Error() string {
	return fmt.Sprintf("the store has no fleet %q; create it once with: acmed fleet init", e.Fleet)
}

// Advice is the code of the failure.
func (e *NoFleetError) Advice() advice.Code { return advice.FleetMissing }

// SealKeyError says that none of this node's seal keys is one of the fleet's.
type SealKeyError struct{ Fleet string }

// Error says what to do.
func (e *SealKeyError) Error() string {
	return fmt.Sprintf("none of seal_files is the seal key of fleet %q; copy the key of a node that works, or start over with: acmed fleet init --again", e.Fleet)
}

// Advice is the code of the failure.
func (e *SealKeyError) Advice() advice.Code { return advice.SealKeyWrong }

// ExistsError says that the fleet was prepared before.
type ExistsError struct{ Fleet string }

// Error says what to do.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("fleet %q exists already; after its seal key was lost, start over with: acmed fleet init --again", e.Fleet)
}

// Init prepares the store for the fleet, with the seal key that seals. Again replaces the seal keys of a fleet that
// exists; what was sealed before cannot be opened any more, and nodes publish what they have.
func (l *Ledger) Init(ctx context.Context, again bool) error {
	old, err := l.readMeta(ctx)
	var none *NoFleetError
	switch {
	case errors.As(err, &none):
		old = &meta{Schema: metaSchema, ID: nonce()}
	case err != nil:
		return err
	case !again:
		return &ExistsError{l.config.Fleet}
	}
	old.Keys = map[string][]byte{}
	return l.addSealKey(ctx, old)
}

func (l *Ledger) readMeta(ctx context.Context) (*meta, error) {
	kv, err := l.get(ctx, l.keys.meta())
	if err != nil {
		return nil, err
	}
	if kv == nil {
		return nil, &NoFleetError{l.config.Fleet}
	}
	m := &meta{raw: kv.Value}
	if err := json.Unmarshal(kv.Value, m); err != nil {
		return nil, damagedValue(kv.Key, err)
	}
	if m.Schema != metaSchema {
		return nil, fmt.Errorf("fleet %q has schema %d, this acmed knows %d; update acmed", l.config.Fleet, m.Schema, metaSchema)
	}
	return m, nil
}

// SetMin sets the oldest release that may order; "" for none. Older nodes take what others obtain.
func (l *Ledger) SetMin(ctx context.Context, release string) error {
	if _, ok := parseRelease(release); release != "" && !ok {
		return fmt.Errorf("%q is no release; want MAJOR.MINOR.PATCH", release)
	}
	m, err := l.readMeta(ctx)
	if err != nil {
		return err
	}
	m.Min = release
	return l.writeMeta(ctx, m)
}

// older reports whether a release comes before another one. One that has no number, such as that of a build by hand, does not.
func older(release, than string) bool {
	a, ok := parseRelease(release)
	b, known := parseRelease(than)
	return ok && known && slices.Compare(a, b) < 0
}

func parseRelease(text string) ([]int, bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "-")
	var list []int
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		list = append(list, n)
	}
	return list, len(list) == 3
}

// Check asks the store whether the fleet exists and whether one of this node's seal keys is the fleet's: a [*NoFleetError],
// a [*SealKeyError] or a failure of the store. It changes nothing.
func (l *Ledger) Check(ctx context.Context) error {
	_, _, err := l.compareSeal(ctx)
	return err
}

// checkSeal compares this node's seal keys with the fleet's. A first key that is new is added, if another one of this node's
// keys proves that it belongs here.
func (l *Ledger) checkSeal(ctx context.Context) error {
	m, known, err := l.compareSeal(ctx)
	if err != nil || known {
		return err
	}
	return l.addSealKey(ctx, m)
}

// compareSeal also tells whether the fleet knows the key that this node seals with.
func (l *Ledger) compareSeal(ctx context.Context) (m *meta, known bool, err error) {
	if m, err = l.readMeta(ctx); err != nil || l.config.Sealer == nil {
		return m, true, err
	}
	opens := map[string]bool{}
	for id, sealed := range m.Keys {
		text, err := l.config.Sealer.Open(l.keys.meta()+"/"+id, sealed)
		opens[id] = err == nil && string(text) == knownText
	}
	belongs := false
	for _, k := range l.config.Sealer.keys {
		belongs = belongs || opens[hex.EncodeToString(k.id[:])]
	}
	if !belongs {
		return nil, false, &SealKeyError{l.config.Fleet}
	}
	return m, opens[l.config.Sealer.ID()], nil
}

func (l *Ledger) addSealKey(ctx context.Context, m *meta) error {
	if l.config.Sealer == nil {
		return errors.New("there is no seal key")
	}
	id := l.config.Sealer.ID()
	m.Keys[id] = l.config.Sealer.Seal(l.keys.meta()+"/"+id, []byte(knownText))
	return l.writeMeta(ctx, m)
}

func (l *Ledger) writeMeta(ctx context.Context, m *meta) error {
	text, err := openjson.Marshal(m, m.raw)
	if err != nil {
		return err
	}
	r, err := l.commit(ctx, Txn{If: []Cond{{l.keys.meta(), m.raw}}, Then: []Op{{Key: l.keys.meta(), Value: text}}})
	if err == nil && !r.Done {
		return &certs.ChangedError{Name: "the fleet's meta data"} // the caller tries again
	}
	return err
}
