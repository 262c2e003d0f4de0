package etcdtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// cluster is etcd members in this process.
type cluster struct {
	configs []*embed.Config
	members []*embed.Etcd
}

// newCluster starts members and waits until they have a leader. Change, if given, is applied to each configuration.
func newCluster(t testing.TB, size int, change func(*embed.Config)) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd") // t.TempDir names are too long for a peer's unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &cluster{members: make([]*embed.Etcd, size)}
	var initial []string
	for i := range size {
		config := embed.NewConfig()
		config.Name = fmt.Sprintf("m%d", i)
		config.Dir = filepath.Join(dir, config.Name)
		config.LogLevel, config.Logger, config.LogOutputs = "fatal", "zap", []string{"/dev/null"}
		config.UnsafeNoFsync = true
		peer, client := local(t, "http"), local(t, "http")
		config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		if change != nil {
			change(config)
		}
		initial = append(initial, config.Name+"="+config.AdvertisePeerUrls[0].String())
		c.configs = append(c.configs, config)
	}
	for i, config := range c.configs {
		config.InitialCluster = strings.Join(initial, ",")
		if c.members[i], err = embed.StartEtcd(config); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.stop(i) })
	}
	c.ready()
	return c
}

// local is an address on loopback whose port was free a moment ago.
func local(t testing.TB, scheme string) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: scheme, Host: l.Addr().String()}
}

func (c *cluster) ready() {
	for _, m := range c.members {
		if m != nil {
			<-m.Server.ReadyNotify()
		}
	}
}

func (c *cluster) stop(i int) {
	if c.members[i] != nil {
		c.members[i].Close()
		c.members[i] = nil
	}
}

// start starts a member again with the data that it has.
func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	config := *c.configs[i]
	config.ClusterState = embed.ClusterStateFlagExisting
	m, err := embed.StartEtcd(&config)
	if err != nil {
		t.Fatal(err)
	}
	c.members[i] = m
}

// leader is the index of the member that leads, -1 if none does.
func (c *cluster) leader() int {
	for i, m := range c.members {
		if m != nil && m.Server.Leader() == m.Server.MemberID() {
			return i
		}
	}
	return -1
}

func (c *cluster) endpoints() []string {
	var list []string
	for _, config := range c.configs {
		list = append(list, config.AdvertiseClientUrls[0].String())
	}
	return list
}

// client is a new connection, closed with the test.
func (c *cluster) client(t testing.TB) *etcd.Engine {
	t.Helper()
	e, err := etcd.Open(etcd.Config{Endpoints: c.endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// empty removes everything.
func empty(t *testing.T, e fleet.Engine) {
	t.Helper()
	for {
		got, err := e.Read(t.Context(), fleet.Range{From: "/", To: "0", Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var ops []fleet.Op
		for _, kv := range got.KVs {
			ops = append(ops, fleet.Op{Key: kv.Key})
		}
		if len(ops) == 0 {
			return
		}
		if _, err := e.Commit(t.Context(), fleet.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually asks until ok says yes. It has no bound of its own: the test's timeout ends it.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for !ok() {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
