package issuer

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// ClockOffset tells how far this machine's clock is ahead of the CA's, by the Date header of its directory (RFC 9110
// section 6.6.1). It is good to a second or two. It needs no account.
func (i *Issuer) ClockOffset(ctx context.Context) (time.Duration, error) {
	ctx, end, err := i.begin(ctx, i.way().orders, &operation{subject: "clock"})
	if err != nil {
		return 0, err
	}
	defer end()
	sent := i.now()
	var a *answer
	err = i.ask(ctx, stageDirectory, func() (err error) {
		a, err = i.transport.get(ctx, http.MethodGet, i.transport.home.String(), maxRedirects)
		return err
	})
	if err != nil {
		return 0, i.unavailable(err)
	}
	received := i.now()
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return 0, i.unavailable(fmt.Errorf("the CA's answer has no readable Date header: %q", text.Cut(a.header.Get("Date"), 100)))
	}
	// The header was rounded down to a second, somewhere between the two times.
	middle := sent.Add(received.Sub(sent) / 2)
	return middle.Sub(date.Add(time.Second / 2)).Round(time.Second), nil
}
