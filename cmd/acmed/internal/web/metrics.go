package web

import (
	"bufio"
	"cmp"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// metrics writes as it goes, so that a fleet's worth of numbers is never held in memory for a client that reads slowly.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	v, err := s.cache.get(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	e := newExposition(bufio.NewWriterSize(w, 32<<10))
	e.daemon(v, s.stuck())
	e.fleet(v.Fleet)
	e.certificates(v)
	e.targets(v)
	e.counts(s.Recorder.read())
	e.process()
	_ = e.Flush()
}

func (e *exposition) daemon(v *view, stuck error) {
	e.family("acmed_build_info", "gauge", "Version of the running daemon. The value is always 1.")
	e.sample(1, "version", v.Version, "goversion", runtime.Version())
	e.family("acmed_config_last_reload_success", "gauge", "Whether the daemon uses the configuration on disk.")
	e.sample(yes(!v.ReloadError))
	e.family("acmed_config_last_reload_success_timestamp_seconds", "gauge", "When the daemon read the configuration in use, in Unix time.")
	e.sample(seconds(v.Reloaded))
	e.family("acmed_scheduler_healthy", "gauge", "Whether the scheduler of the daemon runs. 0 if the daemon is stuck.")
	e.sample(yes(stuck == nil))
	e.family("acmed_clock_doubted", "gauge", "Whether the clock of this machine differs from that of a CA, or jumped.")
	e.sample(yes(slices.ContainsFunc(v.Conditions, func(c control.Condition) bool { return c.Code == advice.ClockWrong })))
	e.family("acmed_condition", "gauge", "Whether acmed or its machine has the failure with this code, as shown above the table of \"acmed status\".")
	e.conditions(v.Conditions)
	e.family("acmed_snapshot_duration_seconds", "gauge", "Time to read the state of all certificates for these metrics.")
	e.sample(v.took.Seconds())
	e.family("process_start_time_seconds", "gauge", "When the daemon started, in Unix time.")
	e.sample(seconds(v.Started))
	e.family("acmed_certificates", "gauge", "Number of configured certificates by state.")
	for _, h := range states() {
		e.sample(float64(v.counts[h]), "state", string(h))
	}
}

// fleet writes nothing for a machine that is in none.
func (e *exposition) fleet(f *Fleet) {
	if f == nil {
		return
	}
	e.family("acmed_fleet_store_up", "gauge", "Whether this node can use the fleet's store.")
	e.sample(yes(f.Up), "fleet", f.Name)
	if !f.Contact.IsZero() {
		e.family("acmed_fleet_last_contact_seconds", "gauge", "When the fleet's store last answered this node, in Unix time.")
		e.sample(seconds(f.Contact), "fleet", f.Name)
	}
	e.family("acmed_fleet_head_lag_seconds", "gauge", "Longest time that a newer version has been in the fleet's store and not active on this node.")
	e.sample(f.Lag.Seconds(), "fleet", f.Name)
	e.family("acmed_fleet_nodes", "gauge", "Number of nodes of the fleet that this node knows, by role.")
	e.sample(float64(f.Issue), "fleet", f.Name, "role", "issue")
	e.sample(float64(f.Install), "fleet", f.Name, "role", "install")
}

// conditions writes one sample for each condition, and zeros for those that an alert waits for.
func (e *exposition) conditions(list []control.Condition) {
	type label struct{ code, issuer string }
	counts := map[label]float64{}
	for _, code := range []advice.Code{
		advice.DaemonStuck, advice.ConfigBroken, advice.ClockWrong, advice.DiskFull, advice.NoPermission, advice.CAUnreachable, advice.StateRepaired,
	} {
		counts[label{string(code), ""}] = 0
	}
	for _, c := range list {
		counts[label{string(c.Code), c.Issuer}]++
	}
	for _, l := range slices.SortedFunc(maps.Keys(counts), func(a, b label) int {
		return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.issuer, b.issuer))
	}) {
		if l.issuer == "" {
			e.sample(counts[l], "code", l.code)
		} else {
			e.sample(counts[l], "code", l.code, "issuer", l.issuer)
		}
	}
}

// certificates are in the order of their names here, which compresses well and compares easily.
func (e *exposition) certificates(v *view) {
	list := make([]*renewal.Status, len(v.Certificates))
	for i := range v.Certificates {
		list[i] = &v.Certificates[i]
	}
	slices.SortFunc(list, func(a, b *renewal.Status) int { return cmp.Compare(a.Name, b.Name) })
	each := func(name, help string, value func(*renewal.Status) (float64, bool)) {
		e.family(name, "gauge", help)
		for _, s := range list {
			if n, ok := value(s); ok {
				e.sample(n, "certificate", s.Name)
			}
		}
	}
	at := func(name, help string, when func(*renewal.Status) time.Time) {
		each(name, help, func(s *renewal.Status) (float64, bool) { t := when(s); return seconds(t), !t.IsZero() })
	}
	planned := func(pick func(*renewal.RenewalStatus) time.Time) func(*renewal.Status) time.Time {
		return func(s *renewal.Status) time.Time {
			if s.Renewal == nil {
				return time.Time{}
			}
			return pick(s.Renewal)
		}
	}
	e.family("acmed_certificate_state", "gauge", "State of the certificate, as a label. The value is always 1.")
	for _, s := range list {
		e.sample(1, "certificate", s.Name, "state", string(s.Health))
	}
	at("acmed_certificate_not_after_seconds", "When the active version expires, in Unix time.", func(s *renewal.Status) time.Time { return s.NotAfter })
	at("acmed_certificate_not_before_seconds", "When the validity of the active version starts, in Unix time.", func(s *renewal.Status) time.Time { return s.From })
	at("acmed_certificate_next_action_timestamp_seconds", "Next scheduled check, attempt or renewal of the certificate, in Unix time.", func(s *renewal.Status) time.Time { return s.Next })
	at("acmed_certificate_renewal_timestamp_seconds", "Planned renewal of the active version, in Unix time.", planned(func(r *renewal.RenewalStatus) time.Time { return r.At }))
	at("acmed_certificate_ari_start_timestamp_seconds", "Start of the renewal window that the CA suggests (RFC 9773), in Unix time.", planned(func(r *renewal.RenewalStatus) time.Time { return r.Start }))
	at("acmed_certificate_ari_end_timestamp_seconds", "End of the renewal window that the CA suggests (RFC 9773), in Unix time.", planned(func(r *renewal.RenewalStatus) time.Time { return r.End }))
	each("acmed_certificate_failures", "Number of failed orders in a row.", func(s *renewal.Status) (float64, bool) { return float64(s.Failures), true })
}

func (e *exposition) targets(v *view) {
	each := func(value func(*renewal.TargetStatus) (float64, bool)) {
		for i := range v.Certificates {
			s := &v.Certificates[i]
			for j := range s.Targets {
				if n, ok := value(&s.Targets[j]); ok && !s.Targets[j].Off {
					e.sample(n, "certificate", s.Name, "target", s.Targets[j].ID)
				}
			}
		}
	}
	e.family("acmed_target_serving", "gauge", "Whether the target served the active version at the last check.")
	each(func(t *renewal.TargetStatus) (float64, bool) { return yes(t.Installed && t.Error == ""), true })
	e.family("acmed_target_verified_timestamp_seconds", "gauge", "When the target last served the right certificate in a check, in Unix time.")
	each(func(t *renewal.TargetStatus) (float64, bool) { return seconds(t.VerifiedAt), !t.VerifiedAt.IsZero() })
}

// counts writes what was counted. Those of known reasons begin at 0, so that the first failure is seen as a change.
func (e *exposition) counts(c counts) {
	e.family("acmed_renewals_total", "counter", "New versions obtained since the daemon started, by reason.")
	usual := []plan.Reason{plan.ReasonNeverIssued, plan.ReasonARI, plan.ReasonRenewBefore, plan.ReasonLastTenth, plan.ReasonForced}
	reasons := slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(usual, maps.Keys(c.renewals)))))
	for _, reason := range reasons {
		e.sample(float64(c.renewals[reason]), "reason", string(reason))
	}
	e.family("acmed_failures_total", "counter", "Failed jobs since the daemon started, by kind of failure.")
	for _, reason := range failures() {
		e.sample(float64(c.failures[reason]), "reason", reason)
	}
	e.family("acmed_failure_codes_total", "counter", "Failed jobs since the daemon started, by the code of \"acmed explain\".")
	for _, entry := range advice.All() {
		e.sample(float64(c.codes[entry.Code]), "code", string(entry.Code))
	}
	kinds := slices.SortedFunc(maps.Keys(c.requests), func(a, b request) int {
		return cmp.Or(cmp.Compare(a.issuer, b.issuer), cmp.Compare(a.endpoint, b.endpoint))
	})
	e.family("acmed_ca_request_duration_seconds", "histogram", "Duration of requests to CAs.")
	for _, k := range kinds {
		e.latency(k, c.requests[k])
	}
	e.family("acmed_ca_request_failures_total", "counter", "Requests to CAs that got an error or no answer.")
	for _, k := range kinds {
		e.sample(float64(c.requests[k].failed), "issuer", k.issuer, "endpoint", k.endpoint)
	}
	told := slices.SortedFunc(maps.Keys(c.notified), func(a, b notified) int {
		return cmp.Or(cmp.Compare(a.notifier, b.notifier), cmp.Compare(a.outcome, b.outcome))
	})
	e.family("acmed_notifications_total", "counter", "Notifications by outcome: sent, failed (an attempt) and dropped (no further attempt).")
	for _, k := range told {
		e.sample(float64(c.notified[k]), "notifier", k.notifier, "outcome", string(k.outcome))
	}
}

func (e *exposition) latency(k request, l *latency) {
	so := 0
	for i, bound := range buckets() {
		so += l.within[i]
		e.suffixed("_bucket", float64(so), "issuer", k.issuer, "endpoint", k.endpoint, "le", strconv.FormatFloat(bound, 'g', -1, 64))
	}
	e.suffixed("_bucket", float64(l.count), "issuer", k.issuer, "endpoint", k.endpoint, "le", "+Inf")
	e.suffixed("_sum", l.sum.Seconds(), "issuer", k.issuer, "endpoint", k.endpoint)
	e.suffixed("_count", float64(l.count), "issuer", k.issuer, "endpoint", k.endpoint)
}
