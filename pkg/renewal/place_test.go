package renewal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/installers"
)

// TestPlace has jobs with two targets each that wait for one server: the one slot goes from hand to hand, and is there again
// at the end.
func TestPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEngine(Config{})
		slots := make(chan struct{}, 1)
		server := installers.NewServer("test", installers.Command{}, installers.Command{}, nil)
		largest, done := 0, make(chan struct{})
		for range 10 {
			go func() {
				slots <- struct{}{}
				p := &place{engine: e, slots: slots}
				defer func() { p.end(); done <- struct{}{} }()
				ctx := p.with(t.Context())
				ends := make(chan struct{})
				for range 2 {
					go func() {
						if err := server.Together(ctx, nil, func(_ context.Context, jobs []*installers.Job) {
							largest = max(largest, len(jobs))
							time.Sleep(time.Second)
							for _, j := range jobs {
								j.Finish(nil)
							}
						}); err != nil {
							t.Error(err)
						}
						ends <- struct{}{}
					}()
				}
				<-ends
				<-ends
			}()
		}
		for range 10 {
			<-done
		}
		if largest < 10 || len(slots) != 0 || e.waiting.Load() != 0 {
			t.Errorf("the largest round has %d jobs; %d slots are taken, %d wait", largest, len(slots), e.waiting.Load())
		}
	})
}
