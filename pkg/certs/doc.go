// Package certs is the vocabulary of acmed: what an operator wants ([Spec]), what a CA issued ([Bundle]), when the CA
// would like it replaced ([Window]), what the nodes of a fleet know together ([Head]), and the typed errors by which the
// parts tell each other when a retry makes sense.
//
// It owns the rules for identifiers ([ParseIdentifier]) and certificate names ([CheckName]), the rule that a bundle is
// always a matching pair ([NewBundle]), and the checks that an issued certificate must pass before anything stores it
// ([Vet]).
//
// Everything here is pure: no disk, no network, no clock of its own. It imports nothing but x/net/idna, pkg/advice and internal/openjson.
package certs
