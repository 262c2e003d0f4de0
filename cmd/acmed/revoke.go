package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

func newRevoke(a *app) *cobra.Command {
	var r control.RevokeRequest
	var output string
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a certificate",
		Long: `Ask the CA to revoke a stored certificate, the active one unless --version names another, and replace the active
certificate. The account signs the request; if the CA rejects that, the key of the certificate does. If the CA does not
revoke it now, acmed asks again until it does.

Reasons: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation. With keyCompromise the new
certificate gets a new key, and no stored version with the old key is used again.`,
		Example: `  acmed revoke www
  acmed revoke www --reason keyCompromise --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			r.Certificate = args[0]
			if r.Keep && r.Reason == "keyCompromise" {
				return usageError(errors.New("--no-replace: after a key compromise the certificate is always replaced"))
			}
			question := "Revoke " + r.Certificate + " and replace it? Clients that check revocation reject the old certificate."
			if r.Keep {
				question = "Revoke " + r.Certificate + " without a replacement? Clients that check revocation reject it."
			}
			if err := newAsker(a, yes).agreeTo(cmd.Context(), question); err != nil {
				return err
			}
			return a.revoke(cmd.Context(), r, output)
		},
	}
	cmd.Flags().StringVar(&r.StoredAs, "version", "", "`version` to revoke, as status shows it; default the active one")
	cmd.Flags().StringVar(&r.Reason, "reason", "unspecified", "why, as RFC 5280 spells it")
	cmd.Flags().BoolVar(&r.Keep, "no-replace", false, "keep the revoked certificate in use; do not order another one")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&r.ByKey, "by-key", false, "sign with the certificate's private key instead of the account's")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) revoke(ctx context.Context, r control.RevokeRequest, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	v, err := b.Revoke(ctx, r)
	if err != nil {
		return err
	}
	if output == "json" {
		return errors.Join(a.json(v), revokeError(r.Certificate, &v))
	}
	if v.Error == "" {
		a.printf("%s: revoked version %s, serial %s\n", r.Certificate, v.StoredAs, v.Serial)
	} else {
		a.printf("%s\n", outcome(r.Certificate, fmt.Sprintf("version %s, serial %s, is not revoked yet, acmed asks again: ", v.StoredAs, v.Serial), v.Error, v.Code))
	}
	if v.Replacement != nil {
		a.printf("%s\n", resultLine(v.Replacement))
	}
	return revokeError(r.Certificate, &v)
}

// revokeError says which half of a revocation for a key compromise is missing.
func revokeError(name string, v *control.Revocation) error {
	replaced := v.Replacement == nil || v.Replacement.Error == ""
	switch {
	case v.Error != "" && !replaced:
		return &exitError{exitFailed, fmt.Errorf("%s is neither revoked nor replaced", name)}
	case v.Error != "":
		return &exitError{exitFailed, fmt.Errorf("%s is not revoked", name)}
	case !replaced:
		return &exitError{exitFailed, fmt.Errorf("%s is revoked and not replaced", name)}
	}
	return nil
}

// agreeTo asks before something that cannot be undone: Enter alone means no.
func (q *asker) agreeTo(ctx context.Context, question string) error {
	if !q.can() {
		return q.agree(ctx, question)
	}
	ok, err := q.confirm(ctx, question, false)
	if err == nil && !ok {
		err = errors.New("nothing was changed")
	}
	return err
}
