package installers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/installers"
)

func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
		var rounds []int
		var begun []time.Time
		run := func(ctx context.Context, jobs []*installers.Job) {
			_ = s.Test(ctx)
			rounds, begun = append(rounds, len(jobs)), append(begun, time.Now())
			time.Sleep(100 * time.Millisecond)
			for _, j := range jobs {
				if n := j.Work.(int); n%10 == 3 {
					j.Finish(fmt.Errorf("%d", n))
				} else {
					j.Finish(nil)
				}
			}
		}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				err := s.Together(t.Context(), i, run)
				if want := i%10 == 3; (err != nil) != want || want && err.Error() != fmt.Sprint(i) {
					t.Errorf("job %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if len(rounds) != 3 || rounds[0] != 1 {
			t.Errorf("the rounds have %v jobs", rounds)
		}
		for i := 1; i < len(begun); i++ {
			if d := begun[i].Sub(begun[i-1]); d < time.Second {
				t.Errorf("round %d begins %s after the one before", i, d)
			}
		}
		// Alone, nobody waits.
		time.Sleep(time.Second)
		before := time.Now()
		if err := s.Together(t.Context(), 0, run); err != nil || time.Since(before) != 100*time.Millisecond {
			t.Errorf("alone: %v after %s", err, time.Since(before))
		}
	})
}

func TestTogetherCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
		boom := errors.New("boom")
		run := func(ctx context.Context, jobs []*installers.Job) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			for _, j := range jobs {
				j.Finish(context.Cause(ctx))
			}
		}
		var wg sync.WaitGroup
		call := func(after, cancelled time.Duration, want error) {
			wg.Go(func() {
				time.Sleep(after)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if cancelled > 0 {
					time.AfterFunc(cancelled, func() { cancel(boom) })
				}
				if err := s.Together(ctx, nil, run); !errors.Is(err, want) {
					t.Errorf("the call after %s: %v", after, err)
				}
			})
		}
		call(0, 10*time.Second, boom)              // leads and is alone: its round ends
		call(time.Second, 5*time.Second, boom)     // is never in a round
		call(2*time.Second, 0, nil)                // in the second one, which goes on
		call(3*time.Second, 20*time.Second, nil)   // in it too, and goes away
		call(15*time.Second, 10*time.Second, boom) // never in a round
		wg.Wait()
	})
}

// TestTogetherPanic has a plugin that panics in a round: nobody waits for ever, and the next round runs.
func TestTogetherPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
		var panics, failures int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						mu.Lock()
						panics++
						mu.Unlock()
					}
				}()
				if s.Together(t.Context(), nil, func(context.Context, []*installers.Job) { panic("oops") }) != nil {
					mu.Lock()
					failures++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if panics == 0 || panics+failures != 5 {
			t.Errorf("%d panics and %d failures", panics, failures)
		}
		if err := s.Together(t.Context(), nil, func(_ context.Context, jobs []*installers.Job) { jobs[0].Finish(nil) }); err != nil {
			t.Error(err)
		}
	})
}

// TestWait gives a scarce place away while others run.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
		slots := make(chan struct{}, 1)
		largest := 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				slots <- struct{}{}
				away := sync.OnceFunc(func() { <-slots })
				defer away()
				ctx := installers.WithWait(t.Context(), func(wait func() error) error {
					away()
					return wait()
				})
				if err := s.Together(ctx, nil, func(_ context.Context, jobs []*installers.Job) {
					largest = max(largest, len(jobs))
					time.Sleep(time.Second)
					for _, j := range jobs {
						j.Finish(nil)
					}
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if largest < 10 {
			t.Errorf("the largest round has %d jobs", largest)
		}
	})
}

func TestAskOnce(t *testing.T) {
	dir := t.TempDir()
	program, runs := filepath.Join(dir, "program"), filepath.Join(dir, "runs")
	write := func(answer string) {
		t.Helper()
		if err := os.WriteFile(program+".new", []byte("#!/bin/sh\necho x >> "+runs+"\necho "+answer+" $1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	s := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
	var got []string
	ask := func(arg string) {
		t.Helper()
		text, err := s.Ask(t.Context(), installers.Command{Argv: []string{program, arg}})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(string(text)))
	}
	write("one")
	ask("a")
	ask("a")
	ask("b")
	write("two")
	ask("a")
	if want := []string{"one a", "one a", "one b", "two a"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if text, _ := os.ReadFile(runs); strings.Count(string(text), "x") != 3 {
		t.Errorf("the program ran %d times", strings.Count(string(text), "x"))
	}
}
