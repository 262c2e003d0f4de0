package daemon

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// examine asks each member of etcd how it is, and the store for the fleet and its seal key. What it finds needs attention.
func (m *member) examine(ctx context.Context) []control.Finding {
	if m == nil {
		return nil
	}
	return storeFindings(m.store.Members(ctx), m.ledger.Check(ctx), m.clientUntil(), time.Now())
}

// clientWarning is how long before its end a client certificate for etcd is worth a word: nothing renews it automatically.
const clientWarning = 30 * 24 * time.Hour

// storeFindings says what is wrong with the store: failed is why this node cannot use it, until when its client certificate
// expires, zero without one.
func storeFindings(members []etcd.Member, failed error, until, now time.Time) []control.Finding {
	var list []control.Finding
	said := map[advice.Code]bool{}
	say := func(code advice.Code, why string) {
		if e, ok := advice.Lookup(cmp.Or(code, advice.StoreUnreachable)); ok && !said[e.Code] {
			said[e.Code] = true
			list = append(list, control.Finding{Attention: true, What: e.What, Why: why, Do: e.Do})
		}
	}
	if failed != nil {
		say(advice.Of(failed), failed.Error())
	}
	for _, one := range members {
		if one.Err != nil {
			list = append(list, control.Finding{Attention: true, What: "the etcd member " + one.Endpoint + " does not answer", Why: one.Err.Error(),
				Do: "start it, and check the firewall, its certificate, and the address in fleet.etcd.endpoints"})
		}
		for _, text := range one.Errors {
			switch {
			case strings.Contains(text, "NOSPACE"):
				say(advice.StoreFull, one.Endpoint+": "+text)
			case strings.Contains(text, "no leader"):
				say(advice.StoreNoQuorum, one.Endpoint+": "+text)
			default:
				list = append(list, control.Finding{Attention: true, What: "the etcd member " + one.Endpoint + " reports a fault", Why: text,
					Do: "look at its log, for example with: journalctl -u etcd"})
			}
		}
	}
	if left := until.Sub(now); !until.IsZero() && left < clientWarning {
		list = append(list, control.Finding{Attention: true, What: fmt.Sprintf("the client certificate for etcd ends at %s", until.UTC().Format(time.RFC3339)),
			Why: "without it this node cannot use the fleet's store, and acmed must not be the one that renews it",
			Do:  "issue a new one from your CA for etcd into fleet.etcd.cert_file and key_file; no restart is needed"})
	}
	return list
}
