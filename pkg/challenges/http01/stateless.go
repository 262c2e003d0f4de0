package http01

import (
	"context"

	"github.com/acmed/acmed/pkg/challenges"
)

// Stateless is for names whose proxy or CDN answers every challenge by itself with token.thumbprint. It has nothing to
// present. Several names, orders and machines can use it at once.
type Stateless struct{}

var _ challenges.Solver = Stateless{}

// Type returns http-01.
func (Stateless) Type() challenges.Type { return challenges.HTTP01 }

// Present does nothing but refuse a token that no proxy would answer.
func (Stateless) Present(_ context.Context, c challenges.Challenge) error {
	return challenges.CheckToken(c.Token)
}

// CleanUp does nothing.
func (Stateless) CleanUp(context.Context, challenges.Challenge) error { return nil }
