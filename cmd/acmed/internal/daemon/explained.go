package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

// The bounds on the look that follows a failed validation.
const (
	explainTime  = 15 * time.Second
	explainNames = 3
)

// explained is an issuer whose failed validations say what doctor says of them. The CA saw them from outside, and cannot know
// that a server of this machine is stopped or serves another directory.
type explained struct {
	renewal.Issuer
	config *config.Config
	rungs  map[string]challenges.Rung
}

// Obtain puts what was found out in front of the error.
func (e explained) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	bundle, err := e.Issuer.Obtain(ctx, req)
	if causes := e.causes(ctx, req.Spec.Name, err); len(causes) > 0 {
		err = fmt.Errorf("%s; %w", strings.Join(causes, "; "), err)
	}
	return bundle, err
}

func (e explained) causes(ctx context.Context, certificate string, err error) (list []string) {
	var unclear []certs.Identifier
	for _, v := range certs.Validations(err) {
		if code := v.Advice(); (code == advice.PortClosed || code == advice.WrongAnswer) && !slices.Contains(unclear, v.Identifier) {
			unclear = append(unclear, v.Identifier)
		}
	}
	if len(unclear) == 0 {
		return nil
	}
	patients, err := patientsIn(e.config, e.rungs, []string{certificate})
	if err != nil {
		return nil // a reload has removed it; its error stands as it is
	}
	patients = slices.DeleteFunc(patients, func(p patient) bool {
		return p.certificate != certificate || !slices.Contains(unclear, p.id)
	})
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	d, err := diagnose(ctx, e.config, patients[:min(len(patients), explainNames)], nil, nil)
	if err != nil {
		return nil // there was no time
	}
	for i := range d.Names {
		if found := nameFindings(&d.Names[i]); len(found) > 0 && found[0].Attention {
			list = append(list, d.Names[i].Identifier+": "+found[0].Do)
		}
	}
	return list
}
