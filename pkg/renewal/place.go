package renewal

import (
	"context"
	"sync"

	"github.com/acmed/acmed/pkg/installers"
)

// place is the slot of one job. When the job has come to wait for the round of a server that other targets share, it gives
// the slot away for good: so many certificates meet in one round however few are ordered at a time, and what is left to do
// after the round waits for nobody's order.
type place struct {
	engine *Engine
	slots  chan struct{}
	once   sync.Once
	away   bool
}

// with makes the waits of ctx give the slot away.
func (p *place) with(ctx context.Context) context.Context {
	return installers.WithWait(ctx, func(wait func() error) error {
		p.once.Do(func() {
			p.away = true
			p.engine.waiting.Add(1)
			<-p.slots
			if f := p.engine.onWait.Load(); f != nil {
				(*f)()
			}
		})
		return wait()
	})
}

// end is called when the job has ended.
func (p *place) end() {
	p.once.Do(func() { <-p.slots })
	if p.away {
		p.engine.waiting.Add(-1)
	}
}
