// Package etcd is the engine of a fleet on etcd 3.4 and later. It is the only importer of the etcd client.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/fleet"
)

// Config says where the cluster is and how a node proves who it is.
type Config struct {
	Endpoints []string // https://host:port; http on loopback only
	CAFile    string   // PEM; "": the system's roots
	CertFile  string   // PEM; "": no client certificate
	KeyFile   string
	ReadKey   func(file string) ([]byte, error) // nil: the file, which nobody else may read
	Log       *zap.Logger                       // for what the client library itself reports as an error; nil: dropped
}

// The settings of the client. Servers refuse connections that send keep-alives more often than every 5 s.
const (
	callTimeout      = 3 * time.Second
	rangeTimeout     = 30 * time.Second
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
	dialTimeout      = 3 * time.Second
)

// Engine implements [fleet.Engine].
type Engine struct {
	client    *clientv3.Client
	endpoints []string
}

var _ fleet.Engine = (*Engine)(nil)

// CheckEndpoint reports why an endpoint cannot be used.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Port() == "" || u.Path != "" && u.Path != "/":
		return fmt.Errorf("endpoint %q: want https://host:port", endpoint)
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("endpoint %q: want https://host:port", endpoint)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("endpoint %q: http is allowed on loopback only, because anyone on the network could read and change what the nodes share; use https", endpoint)
}

// Open prepares a connection; it is made at the first call. TLS files are read at each handshake, so that they can be
// renewed at any time; a file that cannot be read now is an error now.
func Open(c Config) (*Engine, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("the fleet's store has no endpoints")
	}
	secure := 0
	for _, endpoint := range c.Endpoints {
		if err := CheckEndpoint(endpoint); err != nil {
			return nil, err
		}
		if u, _ := url.Parse(endpoint); u.Scheme == "https" {
			secure++
		}
	}
	if secure != 0 && secure != len(c.Endpoints) {
		return nil, errors.New("endpoints: either all use https or none")
	}
	log := zap.NewNop()
	if c.Log != nil {
		log = c.Log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))
	}
	options := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
		MinConnectTimeout: dialTimeout,
	})}
	if secure > 0 {
		creds := &credentials{files: c}
		if _, err := creds.config(""); err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(creds))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, Logger: log, DialTimeout: dialTimeout, DialOptions: options,
		DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("the fleet's store: %w", err)
	}
	return &Engine{client, c.Endpoints}, nil
}

// Close ends the connection.
func (e *Engine) Close() error { return e.client.Close() }

// Read implements [fleet.Engine].
func (e *Engine) Read(ctx context.Context, r fleet.Range) (fleet.Snapshot, error) {
	timeout, options := callTimeout, []clientv3.OpOption{clientv3.WithLimit(r.Limit)}
	if r.To != "" {
		timeout, options = rangeTimeout, append(options, clientv3.WithRange(r.To))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	got, err := e.client.Get(ctx, r.From, options...)
	if err != nil {
		return fleet.Snapshot{}, failure(err, false)
	}
	s := fleet.Snapshot{Revision: got.Header.Revision, More: got.More}
	for _, kv := range got.Kvs {
		s.KVs = append(s.KVs, fleet.KV{Key: string(kv.Key), Value: kv.Value, Lease: kv.Lease, Modified: kv.ModRevision})
	}
	return s, nil
}

// Commit implements [fleet.Engine].
func (e *Engine) Commit(ctx context.Context, t fleet.Txn) (fleet.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var conds []clientv3.Cmp
	for _, c := range t.If {
		if c.Value == nil {
			conds = append(conds, clientv3.Compare(clientv3.CreateRevision(c.Key), "=", 0))
		} else {
			conds = append(conds, clientv3.Compare(clientv3.Value(c.Key), "=", string(c.Value)))
		}
	}
	var then, otherwise []clientv3.Op
	for _, op := range t.Then {
		if op.Value == nil {
			then = append(then, clientv3.OpDelete(op.Key))
		} else {
			then = append(then, clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		}
	}
	for _, key := range t.Else {
		otherwise = append(otherwise, clientv3.OpGet(key))
	}
	got, err := e.client.Txn(ctx).If(conds...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return fleet.Result{}, failure(err, true)
	}
	r := fleet.Result{Done: got.Succeeded, Revision: got.Header.Revision}
	if r.Done {
		return r, nil
	}
	for _, answer := range got.Responses {
		for _, kv := range answer.GetResponseRange().Kvs {
			r.Read = append(r.Read, fleet.KV{Key: string(kv.Key), Value: kv.Value, Lease: kv.Lease, Modified: kv.ModRevision})
		}
	}
	return r, nil
}

// Watch implements [fleet.Engine]. It ends when the member that it is connected to has no leader.
func (e *Engine) Watch(ctx context.Context, after int64, ranges []fleet.Range, fn func(fleet.Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // one call of fn at a time
	var all guard.Group
	for _, r := range ranges {
		all.Go(func() {
			cancel(guard.Err(func() error {
				return e.watch(ctx, after, r, func(b fleet.Batch) error {
					mu.Lock()
					defer mu.Unlock()
					return fn(b)
				})
			})())
		})
	}
	<-ctx.Done()
	all.Wait()
	return context.Cause(ctx)
}

func (e *Engine) watch(ctx context.Context, after int64, r fleet.Range, fn func(fleet.Batch) error) error {
	options := []clientv3.OpOption{clientv3.WithRev(after + 1), clientv3.WithFragment()}
	if r.To != "" {
		options = append(options, clientv3.WithRange(r.To))
	}
	for got := range e.client.Watch(clientv3.WithRequireLeader(ctx), r.From, options...) {
		if err := got.Err(); err != nil {
			return failure(err, false)
		}
		batch := fleet.Batch{Revision: got.Header.Revision}
		for _, ev := range got.Events {
			batch.Events = append(batch.Events, fleet.Event{
				KV:      fleet.KV{Key: string(ev.Kv.Key), Value: ev.Kv.Value, Lease: ev.Kv.Lease, Modified: ev.Kv.ModRevision},
				Deleted: ev.Type == clientv3.EventTypeDelete,
			})
		}
		if len(batch.Events) == 0 {
			continue
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return failure(errors.New("the watch ended"), false)
}

// Grant implements [fleet.Engine].
func (e *Engine) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := e.client.Grant(ctx, int64(ttl.Seconds()))
	if err != nil {
		return 0, failure(err, true)
	}
	return int64(got.ID), nil
}

// KeepAlive implements [fleet.Engine].
func (e *Engine) KeepAlive(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := e.client.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
	return failure(err, false)
}

// Revoke implements [fleet.Engine].
func (e *Engine) Revoke(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := e.client.Revoke(ctx, clientv3.LeaseID(lease))
	if err = failure(err, true); errors.Is(err, fleet.ErrNoLease) {
		return nil
	}
	return err
}

// Member is one member of the cluster, as it says itself.
type Member struct {
	Endpoint string
	Version  string
	Leader   bool
	Bytes    int64 // of its database
	Errors   []string
	Err      error // it did not answer
}

// Members asks each endpoint how it is.
func (e *Engine) Members(ctx context.Context) []Member {
	list := make([]Member, len(e.endpoints))
	var all guard.Group
	for i, endpoint := range e.endpoints {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			list[i].Endpoint = endpoint
			got, err := e.client.Status(ctx, endpoint)
			if err != nil {
				list[i].Err = failure(err, false)
				return
			}
			list[i].Version, list[i].Bytes, list[i].Errors = got.Version, got.DbSize, slices.Clone(got.Errors)
			list[i].Leader = got.Header.MemberId == got.Leader
		})
	}
	all.Wait()
	return list
}
