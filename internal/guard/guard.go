// Package guard keeps a panic from ending the program: in every goroutine that acmed starts, it becomes an error, a line in
// the log, or the caller's own. [Group] replaces sync.WaitGroup for that; internal/layers allows no other.
package guard

import (
	"fmt"
	"runtime/debug"
	"sync"

	"go.uber.org/zap"
)

// PanicError is a panic that became an error.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names what was passed to panic.
func (e *PanicError) Error() string { return fmt.Sprint("internal error: ", e.Value) }

// Recovered makes an error of what recover returned. It keeps the stack of the goroutine where it began.
func Recovered(value any) *PanicError {
	if e, ok := value.(*PanicError); ok {
		return e
	}
	return &PanicError{value, debug.Stack()}
}

// Group is a sync.WaitGroup whose Wait panics when one of its functions did, so that whoever waits deals with it.
type Group struct {
	slots chan struct{} // nil: no limit
	all   sync.WaitGroup
	mu    sync.Mutex
	first *PanicError
}

// SetLimit bounds how many functions run at a time, before the first.
func (g *Group) SetLimit(n int) { g.slots = make(chan struct{}, n) }

// Go runs f in a goroutine of its own, when there is room.
func (g *Group) Go(f func()) {
	if g.slots != nil {
		g.slots <- struct{}{}
	}
	g.all.Go(func() {
		defer func() {
			if g.slots != nil {
				<-g.slots
			}
			if r := recover(); r != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				if g.first == nil {
					g.first = Recovered(r)
				}
			}
		}()
		f()
	})
}

// Wait waits for all functions.
func (g *Group) Wait() {
	g.all.Wait()
	if g.first != nil {
		panic(g.first)
	}
}

// Each runs do for the numbers below n, at most limit of them at a time, and waits as a [Group] does.
func Each(n, limit int, do func(i int)) {
	var g Group
	g.SetLimit(limit)
	for i := range n {
		g.Go(func() { do(i) })
	}
	g.Wait()
}

// Err makes a panic of f its error.
func Err(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = Recovered(r)
			}
		}()
		return f()
	}
}

// Logged logs a panic of f, for what runs on its own. What says what f does.
func Logged(log *zap.Logger, what string, f func()) func() {
	return func() {
		defer func() {
			if r := recover(); r != nil {
				e := Recovered(r)
				log.Error("internal error", zap.String("where", what), zap.Any("panic", e.Value), zap.ByteString("stack", e.Stack))
			}
		}()
		f()
	}
}

// Go runs f on its own and logs a panic.
func Go(log *zap.Logger, what string, f func()) { go Logged(log, what, f)() }
