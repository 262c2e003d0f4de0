package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// URL delivers through a chat or push service, by a shoutrrr URL such as slack://token@channel.
type URL struct {
	url  certs.Secret
	busy chan struct{} // holds one: the library cannot be stopped, so that at most one call of it hangs
}

var _ Sender = (*URL)(nil)

// NewURL checks the URL as far as that is possible without a network.
func NewURL(address certs.Secret) (*URL, error) {
	scheme, _, found := strings.Cut(strings.TrimSpace(string([]byte(address))), "://")
	if !found {
		return nil, errors.New("it does not hold a URL such as slack://TOKEN@CHANNEL")
	}
	service, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	if known := (&router.ServiceRouter{}).ListServices(); !slices.Contains(known, service) {
		return nil, errors.New("the part of the URL before :// names no service that is known; https://shoutrrr.nickfedor.com lists them")
	}
	return &URL{url: address, busy: make(chan struct{}, 1)}, nil
}

// Send sends one message. The service is looked up each time, because for some of them that is a login.
func (u *URL) Send(ctx context.Context, events []Event) error {
	select {
	case u.busy <- struct{}{}:
	default:
		return errors.New("the message before this one still hangs")
	}
	message := subject(events) + "\n" + messageText(events, chatText)
	result := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				result <- errors.New("internal error of the service")
			}
			<-u.busy
		}()
		result <- u.send(message)
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
}

func (u *URL) send(message string) error {
	address := strings.TrimSpace(string([]byte(u.url)))
	r := router.ServiceRouter{}
	service, err := r.Locate(address)
	if err == nil {
		err = service.Send(message, &types.Params{})
	}
	if err != nil {
		return errors.New(scrub(err.Error(), address))
	}
	return nil
}

var anyURL = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*)://[^\s"'<>]*`)

// scrub takes everything out of a text that may come from a secret URL: any URL, and any part of this one.
func scrub(said, secret string) string {
	said = anyURL.ReplaceAllString(said, "$1://<redacted>")
	for _, part := range secrets(secret) {
		said = strings.ReplaceAll(said, part, "<redacted>")
	}
	return text.Line(said, errorText)
}

// secrets lists the parts of a URL behind its scheme, the longest first, as they are written and as they are meant.
func secrets(address string) []string {
	_, rest, _ := strings.Cut(address, "://")
	parts := []string{rest}
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune("/@:?&=#,;", r) }) {
		parts = append(parts, part)
		if meant, err := url.QueryUnescape(part); err == nil {
			parts = append(parts, meant)
		}
		if meant, err := url.PathUnescape(part); err == nil {
			parts = append(parts, meant)
		}
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(parts)
}
