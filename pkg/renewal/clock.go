package renewal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

const (
	// clockJump is the difference between the wall clock and the time that really went by, or a CA's clock, above which the
	// wall clock is doubted. NTP slews or steps by far less; a suspended machine and an operator's mistake show more.
	clockJump = time.Hour
	// clockPatience is after how long without another jump the clock is believed when no CA can be asked.
	clockPatience = time.Hour
)

// clocks is what is known about the clock of this machine. The zero clocks believe it.
type clocks struct {
	jump  plan.Suspicion           // the clock jumped, and no CA was asked since
	ahead map[string]time.Duration // how far it is ahead of the CAs, by issuer, as those that answered last said
}

// suspicion says whether certificates of these issuers can rely on the clock: the word of their own CAs decides, and that
// of all others only where none of theirs answered. Most of those must disagree with the clock: a single CA whose own
// clock is wrong stops nobody else's renewals.
func (c *clocks) suspicion(issuers []string) plan.Suspicion {
	if len(c.ahead) == 0 {
		return c.jump
	}
	asked := slices.DeleteFunc(slices.Clone(issuers), func(name string) bool { _, ok := c.ahead[name]; return !ok })
	if len(asked) == 0 {
		asked = slices.Collect(maps.Keys(c.ahead))
	}
	differ := c.differing(asked)
	if 2*len(differ) <= len(asked) {
		return plan.Suspicion{}
	}
	name := differ[len(differ)/2]
	return plan.Suspicion{Reason: c.differs(name), Ahead: c.ahead[name]}
}

// differing are the issuers that disagree with the clock, sorted by how much.
func (c *clocks) differing(issuers []string) []string {
	list := slices.DeleteFunc(slices.Clone(issuers), func(name string) bool { return c.ahead[name].Abs() <= clockJump })
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(c.ahead[a], c.ahead[b]), strings.Compare(a, b)) })
	return list
}

func (c *clocks) differs(name string) string {
	return fmt.Sprintf("the clock differs from that of %s by %s", name, c.ahead[name].Abs().Round(time.Second))
}

// problem is for people, about all certificates; "" when nothing contradicts the clock.
func (c *clocks) problem() string {
	if len(c.ahead) == 0 {
		return c.jump.Reason
	}
	var list []string
	for _, name := range c.differing(slices.Collect(maps.Keys(c.ahead))) {
		list = append(list, c.differs(name))
	}
	return strings.Join(list, "; ")
}

// ClockProblem says why the clock of this machine is doubted, by all certificates or those of one CA; "" when it is not.
func (e *Engine) ClockProblem() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clocks.problem()
}

func (e *Engine) suspicion(issuers []string) plan.Suspicion {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clocks.suspicion(issuers)
}

// setClocks replaces what is known about the clock, and tells when that begins or ends a doubt.
func (e *Engine) setClocks(ctx context.Context, c clocks) {
	e.mu.Lock()
	before := e.clocks.problem()
	e.clocks = c
	after, set := c.problem(), e.set
	e.mu.Unlock()
	event := notify.Event{Kind: notify.ClockDoubted, Time: e.clock(), Error: after, Code: advice.ClockWrong,
		Message: "the clock of this machine is doubted; ordinary renewals wait"}
	switch {
	case before == "" && after != "":
		e.log.Error("clock doubted, renewals wait until it is confirmed", zap.String("why", after), zap.Time("now", e.clock()))
	case before != "" && after == "":
		e.log.Info("clock confirmed, renewals resumed", zap.Time("now", e.clock()))
		event.Kind, event.Recovers, event.Code, event.Message = notify.Recovered, notify.ClockDoubted, "", "the clock of this machine is confirmed, renewals resumed"
	default:
		return
	}
	if set.Notifier == nil {
		return
	}
	if err := set.Notifier.Notify(ctx, event); err != nil {
		e.log.Warn("notification failed", zap.Error(err))
	}
}

// askClocks asks the CAs for the time, and reports whether one answered.
func (e *Engine) askClocks(ctx context.Context) bool {
	ask := e.current().ClockOffsets
	if ask == nil {
		return false
	}
	bounded, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	ahead := ask(bounded)
	if len(ahead) == 0 {
		return false
	}
	e.setClocks(ctx, clocks{ahead: ahead})
	return true
}

// confirmClock asks the CAs for the time once after the start, where there is no earlier reading to compare with, and
// returns why certificates of these issuers cannot rely on the clock. Jobs that come meanwhile wait for the answer. When
// no CA answers the clock is believed.
func (e *Engine) confirmClock(ctx context.Context, issuers []string) plan.Suspicion {
	select {
	case e.confirming <- struct{}{}:
		if !e.confirmed {
			e.confirmed = true
			e.askClocks(ctx)
		}
		<-e.confirming
	case <-ctx.Done():
	}
	return e.suspicion(issuers)
}

// clockWatch compares the wall clock with the monotonic one. It is used by the scheduler alone.
type clockWatch struct {
	wall, mono time.Time
	jumped     time.Time // monotonic; when the last jump was seen
	askAt      time.Time // monotonic; zero: nothing is doubted
}

// read notes a reading of the wall clock and returns by how much it jumped since the one before.
func (w *clockWatch) read(wall, mono time.Time) (by time.Duration) {
	if !w.mono.IsZero() {
		by = wall.Sub(w.wall) - mono.Sub(w.mono)
	}
	w.wall, w.mono = wall.Round(0), mono
	return by
}

// watchClock pauses renewals after the clock jumped, until CAs confirm it: a machine that believes to be a year ahead must
// not renew everything, nor one that is behind let things expire without a word. Without an answer it is believed when it
// ran steadily for a while.
func (s *Scheduler) watchClock(ctx context.Context) {
	wall, mono := s.Clock(), time.Now()
	if by := s.watch.read(wall, mono); by.Abs() > clockJump {
		s.watch.jumped, s.watch.askAt = mono, mono
		reason := fmt.Sprintf("the clock jumped by %s and is not confirmed yet", by.Round(time.Second))
		s.Engine.setClocks(ctx, clocks{jump: plan.Suspicion{Reason: reason, Ahead: by}})
	}
	problem := s.Engine.ClockProblem()
	switch {
	case problem == "":
		s.watch.askAt = time.Time{}
		return
	case s.watch.askAt.IsZero(): // a job found out
		s.watch.askAt = mono.Add(plan.ClockCheck)
	}
	if mono.Before(s.watch.askAt) {
		return
	}
	s.watch.askAt = mono.Add(plan.ClockCheck)
	if !s.Engine.askClocks(ctx) && !s.watch.jumped.IsZero() && mono.Sub(s.watch.jumped) >= clockPatience {
		s.watch.jumped = time.Time{}
		s.Engine.setClocks(ctx, clocks{})
	}
	if s.Engine.ClockProblem() != problem {
		s.Sweep()
	}
}
