package renewal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/renewal/plan"
)

const (
	// clockJump is the difference between the wall clock and the time that really went by above which the wall clock is
	// doubted. NTP slews or steps by far less; a suspended machine and an operator's mistake show more.
	clockJump = time.Hour
	// clockPatience is after how long without another jump the clock is believed when no CA can be asked.
	clockPatience = time.Hour
)

// clockWatch compares the wall clock with the monotonic one. It is used by the scheduler alone.
type clockWatch struct {
	wall, mono time.Time
	doubtSince time.Time // monotonic; zero: no doubt
	lookAt     time.Time // monotonic
	by         time.Duration
}

// look notes a reading of the wall clock, and begins to doubt it when it jumped.
func (w *clockWatch) look(wall, mono time.Time) (jumped bool) {
	if !w.mono.IsZero() {
		by := wall.Sub(w.wall) - mono.Sub(w.mono)
		if by.Abs() > clockJump {
			w.by, w.doubtSince, w.lookAt, jumped = by, mono, mono, true
		}
	}
	w.wall, w.mono = wall.Round(0), mono
	return jumped
}

// judge ends the doubt when the CA's clock agrees, or when no CA answers and the clock ran steadily for a while.
func (w *clockWatch) judge(mono time.Time, ask func() (time.Duration, error)) (settled bool) {
	if w.doubtSince.IsZero() || mono.Before(w.lookAt) {
		return false
	}
	w.lookAt = mono.Add(plan.ClockCheck)
	ahead, err := ask()
	switch {
	case err == nil && ahead.Abs() <= clockJump, err != nil && mono.Sub(w.doubtSince) >= clockPatience:
		w.doubtSince = time.Time{}
		return true
	}
	return false
}

// watchClock pauses renewals after the clock jumped, until a CA's clock confirms it: a machine that believes to be a year
// ahead must not renew everything, nor one that is behind let things expire without a word.
func (s *Scheduler) watchClock(ctx context.Context) {
	wall, mono := s.Clock(), time.Now()
	if s.watch.doubtSince.IsZero() && s.Engine.suspects().Reason != "" { // a job found out, see confirmClock
		s.watch.doubtSince, s.watch.lookAt = mono, mono.Add(plan.ClockCheck)
	}
	if s.watch.look(wall, mono) {
		s.Log.Error("the clock jumped, renewals wait until it is confirmed", zap.Duration("by", s.watch.by), zap.Time("now", wall))
		s.Engine.suspect(plan.Suspicion{
			Reason: fmt.Sprintf("the clock jumped by %s and is not confirmed yet", s.watch.by.Round(time.Second)), Ahead: s.watch.by,
		})
	}
	settled := s.watch.judge(mono, func() (time.Duration, error) { return s.Engine.clockOffset(ctx) })
	if settled {
		s.Log.Info("the clock is believed again", zap.Time("now", wall))
		s.Engine.suspect(plan.Suspicion{})
		s.Sweep()
	}
}

// confirmClock asks a CA for the time once after the start, where there is no earlier reading to compare with, and returns
// why the clock is not believed. Jobs that come meanwhile wait for the answer. When no CA answers the clock is believed.
func (e *Engine) confirmClock(ctx context.Context) plan.Suspicion {
	select {
	case e.confirming <- struct{}{}:
		defer func() { <-e.confirming }()
	case <-ctx.Done():
		return e.suspects()
	}
	if e.confirmed {
		return e.suspects()
	}
	e.confirmed = true
	ahead, err := e.clockOffset(ctx)
	if err != nil || ahead.Abs() <= clockJump {
		return e.suspects()
	}
	e.log.Error("the clock differs from the CA's, renewals wait until it is right", zap.Duration("ahead", ahead), zap.Time("now", e.clock()))
	e.suspect(plan.Suspicion{Reason: fmt.Sprintf("the clock differs from the CA's by %s", ahead.Round(time.Second)), Ahead: ahead})
	return e.suspects()
}

// suspect makes jobs wait with ordinary renewals for as long as there is a reason.
func (e *Engine) suspect(s plan.Suspicion) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.suspicion = s
}

func (e *Engine) suspects() plan.Suspicion {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.suspicion
}

// clockOffset asks a CA how far this machine's clock is ahead.
func (e *Engine) clockOffset(ctx context.Context) (time.Duration, error) {
	ask := e.current().ClockOffset
	if ask == nil {
		return 0, errors.New("there is no CA to ask for the time")
	}
	ctx, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	return ask(ctx)
}
