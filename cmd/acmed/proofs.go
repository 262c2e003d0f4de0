package main

import (
	"fmt"

	"github.com/acmed/acmed/pkg/renewal"
)

// proofs tells how each name of a certificate was proved to the CA, and why in that way.
func (a *app) proofs(c renewal.Status) {
	for _, v := range c.Validations {
		how := ""
		switch {
		case v.Solver != "" && v.Solver != v.Type:
			how = fmt.Sprintf(" proved by %s via %s", v.Type, v.Solver)
		case v.Solver != "":
			how = " proved by " + v.Type
		case v.Reason == "":
			continue
		}
		if v.Reason != "" {
			how += ": " + v.Reason
		}
		a.printf("%s: %s%s\n", c.Name, v.Identifier, how)
	}
}
