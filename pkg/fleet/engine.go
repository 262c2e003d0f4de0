package fleet

import (
	"context"
	"errors"
	"time"
)

// Engine is the replicated store of a fleet: an ordered map with transactions, leases and a history to watch. Every call
// is linearizable. A failure is a [*certs.LedgerError]; its Unknown says that a transaction may have taken effect.
//
// pkg/fleet/etcd implements it; pkg/fleet/fleettest has one in memory and the suite that both pass.
type Engine interface {
	// Read returns the keys of a range in order.
	Read(ctx context.Context, r Range) (Snapshot, error)
	// Commit runs a transaction. A condition that does not hold is no error: Result.Done is false.
	Commit(ctx context.Context, t Txn) (Result, error)
	// Watch calls fn for every later change in the ranges, in order within each range, until ctx ends or fn fails. It
	// starts with the first revision after the given one, and returns [ErrCompacted] if that is gone.
	Watch(ctx context.Context, after int64, ranges []Range, fn func(Batch) error) error
	Leases
}

// Leases tie keys to the life of a process.
type Leases interface {
	// Grant makes a lease. Without a keep-alive within ttl the store removes it, with all keys that were put under it.
	Grant(ctx context.Context, ttl time.Duration) (int64, error)
	// KeepAlive renews a lease, or returns [ErrNoLease].
	KeepAlive(ctx context.Context, lease int64) error
	// Revoke removes a lease and its keys. It is no error if there is none.
	Revoke(ctx context.Context, lease int64) error
}

// The errors that are not failures of the store.
var (
	ErrCompacted = errors.New("the revision to watch from was compacted")
	ErrNoLease   = errors.New("the lease has ended")
)

// Range is all keys from From up to and without To. An empty To means From alone.
type Range struct {
	From, To string
	Limit    int64 // 0: all
}

// Prefix is the range of all keys that begin with p, which ends in a slash.
func Prefix(p string) Range { return Range{From: p, To: p[:len(p)-1] + string(p[len(p)-1]+1)} }

// KV is one key with its value.
type KV struct {
	Key      string
	Value    []byte
	Lease    int64 // 0: none
	Modified int64 // revision of the last change; comparable only within one unbroken watch
}

// Snapshot is the answer to a read.
type Snapshot struct {
	Revision int64 // of the whole store
	KVs      []KV
	More     bool // the limit cut it off
}

// Txn puts and deletes all of Then if all of If hold, else it reads the keys in Else. At most 128 operations.
type Txn struct {
	If   []Cond
	Then []Op
	Else []string
}

// Cond holds if the key has exactly this value; a nil Value, if the key does not exist.
type Cond struct {
	Key   string
	Value []byte
}

// Op puts a value, under a lease if one is given; a nil Value deletes.
type Op struct {
	Key   string
	Value []byte
	Lease int64
}

// Result is the answer to a transaction.
type Result struct {
	Done     bool
	Revision int64 // of the whole store, after it
	Read     []KV  // the keys in Else that exist, if not Done
}

// Batch is the changes of one or more revisions.
type Batch struct {
	Revision int64 // of the whole store
	Events   []Event
}

// Event is one change; after a deletion Value is empty and Modified is the revision of the deletion.
type Event struct {
	KV
	Deleted bool
	fresh   bool // it happened a moment ago
}
