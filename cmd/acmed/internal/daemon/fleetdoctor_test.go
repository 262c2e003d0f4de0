package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// TestStoreFindings: each way in which the store can be wrong is named once, with what to do; a good one is not mentioned.
func TestStoreFindings(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	good := etcd.Member{Endpoint: "https://10.0.0.1:2379", Leader: true}
	away := etcd.Member{Endpoint: "https://10.0.0.2:2379", Err: errors.New("connection refused")}
	failed := func(code advice.Code) error { return &certs.LedgerError{Code: code, Err: errors.New("the cause")} }
	for name, tc := range map[string]struct {
		members []etcd.Member
		failed  error
		until   time.Time
		want    []string // of what, in order
		do      string
	}{
		"good":              {members: []etcd.Member{good}, until: now.Add(100 * 24 * time.Hour)},
		"one member down":   {members: []etcd.Member{good, away}, want: []string{"member https://10.0.0.2:2379 does not answer"}, do: "firewall"},
		"unreachable":       {members: []etcd.Member{away}, failed: failed(advice.StoreUnreachable), want: []string{"unreachable", "does not answer"}, do: "fleet.etcd.endpoints"},
		"denied":            {failed: failed(advice.StoreDenied), want: []string{"denied access"}, do: "etcdctl user get"},
		"full":              {members: []etcd.Member{{Errors: []string{"memberID:1 alarm:NOSPACE "}}, {Errors: []string{"memberID:1 alarm:NOSPACE "}}}, want: []string{"is full"}, do: "etcdctl alarm disarm"},
		"no leader":         {members: []etcd.Member{{Errors: []string{"etcdserver: no leader"}}}, failed: failed(advice.StoreNoQuorum), want: []string{"no leader"}, do: "Start the members"},
		"corrupt":           {members: []etcd.Member{{Errors: []string{"memberID:1 alarm:CORRUPT "}}}, want: []string{"reports a fault"}, do: "journalctl"},
		"no fleet":          {members: []etcd.Member{good}, failed: &fleet.NoFleetError{Fleet: "web"}, want: []string{"no such fleet"}, do: "acmed fleet init"},
		"another seal key":  {members: []etcd.Member{good}, failed: &fleet.SealKeyError{Fleet: "web"}, want: []string{"seal key is not the fleet's"}, do: "Copy the seal key"},
		"a cause unknown":   {failed: errors.New("schema 9"), want: []string{"unreachable"}, do: "acmed doctor"},
		"certificate ends":  {members: []etcd.Member{good}, until: now.Add(20 * 24 * time.Hour), want: []string{"client certificate for etcd ends at 2026-12-11"}, do: "no restart"},
		"certificate ended": {members: []etcd.Member{good}, until: now.Add(-time.Hour), want: []string{"client certificate for etcd ends at 2026-11-21"}, do: "no restart"},
	} {
		got := storeFindings(tc.members, tc.failed, tc.until, now)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i, f := range got {
			if !f.Attention || !strings.Contains(f.What, tc.want[i]) || f.Why == "" || i == 0 && !strings.Contains(f.Do, tc.do) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}
