package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Rollover gives the account a new key (RFC 8555 section 7.3.5). The new key is stored before the CA hears of it; when the
// answer is lost, the next operation finds out which of the two keys the CA knows.
func (i *Issuer) Rollover(ctx context.Context) error {
	if _, err := i.registered(ctx); err != nil {
		return err
	}
	return i.withAccount(ctx, func(a *store.Account) error {
		return i.alone(ctx, a, func() error { return i.rollOver(ctx, a) })
	})
}

func (i *Issuer) rollOver(ctx context.Context, a *store.Account) error {
	c, err := i.accountClient(ctx, a)
	if err != nil {
		return err
	}
	if c.dir.KeyChangeURL == "" {
		return &certs.PermanentError{Err: advice.Tag(advice.NotSupported, errors.New("the directory of the CA has no keyChange"))}
	}
	next, err := certs.NewKey(certs.EC256)
	if err != nil {
		return fmt.Errorf("make an account key: %w", err)
	}
	a.NextKey = next
	if err := i.saveAccount(a); err != nil {
		a.NextKey = nil
		return err
	}
	if err := c.changeKey(next); err != nil {
		return notOffered(err) // settle finds out later what became of it
	}
	a.Key, a.NextKey, a.KeyChanged = next, nil, i.now()
	return i.saveAccount(a)
}

// settle ends a key rollover of which the outcome is unknown: if the CA knows the account by the next key, that is the key
// from now on, else the rollover did not happen.
func (i *Issuer) settle(ctx context.Context, a *store.Account) error {
	if a.NextKey == nil {
		return nil
	}
	return i.alone(ctx, a, func() error { return i.settleAlone(ctx, a) })
}

func (i *Issuer) settleAlone(ctx context.Context, a *store.Account) error {
	if a.NextKey == nil { // another node did
		return nil
	}
	got, err := i.lookUp(ctx, a.NextKey)
	switch {
	case err == nil && (a.URI == "" || got.Location == a.URI):
		a.Key, a.URI, a.KeyChanged = a.NextKey, got.Location, i.now()
	case err != nil && !isKind(err, typeAccountDoesNotExist) && !isKind(err, typeMalformed):
		return err
	default: // kept, because a part of the CA may be slow to know it
		if err := i.retireKey(a.NextKey); err != nil {
			return err
		}
	}
	a.NextKey = nil
	return i.saveAccount(a)
}

// notOffered says of an operation whose URL leads nowhere that the CA does not support it.
func notOffered(err error) error {
	p := problemOf(err)
	if p != nil && (p.status == http.StatusNotFound || p.status == http.StatusNotImplemented) && p.kind != typeAccountDoesNotExist {
		return &certs.PermanentError{Err: advice.Tag(advice.NotSupported, fmt.Errorf("key rollover: %w", p))}
	}
	return err
}

// changeKey asks the CA to replace the account's key.
func (c *client) changeKey(next crypto.Signer) error {
	address := c.dir.KeyChangeURL
	payload, err := json.Marshal(map[string]any{"account": c.kid, "oldKey": jose.JSONWebKey{Key: c.key.Public()}})
	if err != nil {
		return fmt.Errorf("key rollover: %w", err)
	}
	inner, err := sign(next, payload, &jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"url": address}}, "")
	if err != nil {
		return fmt.Errorf("key rollover: %w", err)
	}
	return c.post("key rollover", address, json.RawMessage(inner))
}

// post signs and sends what lego's api.Core has no call for, with the account's key.
func (c *client) post(what, address string, payload any) error {
	text, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = c.signed(what, func() error {
		body, err := sign(c.key, text, &jose.SignerOptions{NonceSource: c, ExtraHeaders: map[jose.HeaderKey]any{"url": address}}, c.kid)
		if err != nil {
			return err
		}
		return c.postJOSE(address, body)
	})
	if err != nil {
		return c.explain(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

func (c *client) postJOSE(address, body string) error {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/jose+json")
	a, err := c.i.transport.send(c.ctx, req)
	if err != nil {
		return err
	}
	return a.failure()
}

// sign makes a JWS in the flattened JSON form (RFC 8555 section 6.2).
func sign(key crypto.Signer, payload []byte, options *jose.SignerOptions, kid string) (string, error) {
	algorithm := jose.RS256
	if ec, ok := key.Public().(*ecdsa.PublicKey); ok {
		algorithm = jose.ES256
		if ec.Curve == elliptic.P384() {
			algorithm = jose.ES384
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.FullSerialize(), nil
}
