// Package manual holds what acmed-dns says about itself. It links no provider, so that the page is made without them.
package manual

import "strings"

// Usage is the help.
const Usage = `acmed-dns is run by acmed, which talks to it on standard input and output.

  acmed-dns list             the DNS providers
  acmed-dns describe NAME    the variables of a provider
  acmed-dns version
`

// Page is acmed-dns(1), in the macros of man(7).
func Page(version string) string {
	return strings.ReplaceAll(page, "VERSION", strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(version))
}

const page = `.TH "ACMED\-DNS" "1" "" "acmed VERSION" "acmed manual"
.SH NAME
acmed\-dns \- the DNS worker of acmed
.SH SYNOPSIS
.B acmed\-dns list
.br
.B acmed\-dns describe
.I NAME
.br
.B acmed\-dns version
.SH DESCRIPTION
acmed\-dns sets and removes the TXT records of dns\-01 challenges at DNS providers. acmed runs it as a child, one for each
credential, and talks to it on standard input and output; people run it to see which providers there are.
.TP
.B list
Print the names of the DNS providers, and what each is called.
.TP
.BI describe " NAME"
Print the variables of a provider: those that it needs and those that it may have.
.TP
.B version
Print the version, and that of the library with the providers.
.SH ENVIRONMENT
acmed\-dns reads no configuration. Everything comes from the variables in the
.B env_file
of a solver, one
.IR NAME = VALUE
a line, which
.BR acmed.yaml (5)
names:
.PP
.nf
solvers:
  \- name: zone
    zones: [example.com]
    dns\-01: { provider: cloudflare, env_file: /etc/acmed/secrets/cloudflare }
.fi
.PP
The file must be readable by its owner alone. No other variable reaches the worker, and no value of one appears in a
message.
.SH EXAMPLES
.nf
acmed\-dns list
acmed\-dns describe cloudflare
.fi
.SH EXIT STATUS
.TP
.B 0
done
.TP
.B 1
failed; the reason is on standard error
.SH SEE ALSO
.BR acmed (1),
.BR acmed.yaml (5)
`
