package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/internal/control"
)

func newRevoke(a *app) *cobra.Command {
	var r control.RevokeRequest
	var output string
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke a certificate",
		Long: `Ask the CA to revoke a stored certificate, the active one unless --version names another. The account signs the
request, and when the CA does not take that, the certificate's own key.

Reasons: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation. After keyCompromise a new
certificate with a new key is ordered and installed at once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			r.Certificate = args[0]
			return a.revoke(cmd.Context(), r, output)
		},
	}
	cmd.Flags().StringVar(&r.StoredAs, "version", "", "`version` to revoke, as status shows it; default the active one")
	cmd.Flags().StringVar(&r.Reason, "reason", "unspecified", "why, as RFC 5280 spells it")
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
		err = a.json(v)
	} else {
		a.printf("%s: revoked version %s, serial %s\n", r.Certificate, v.StoredAs, v.Serial)
	}
	if v.Replacement == nil {
		return err
	}
	if output != "json" {
		a.printf("%s\n", resultLine(v.Replacement))
	}
	if v.Replacement.Error != "" {
		return errors.Join(err, &exitError{exitFailed, fmt.Errorf("%s is revoked and not replaced", r.Certificate)})
	}
	return err
}
