// Package preflight looks at a name as a CA will, before a validation is spent on it: what DNS says, who answers on the
// ports of http-01 and tls-alpn-01 at each address, and whether that is us.
//
// [Run] probes and [Judge] concludes; the conclusion is a pure function of what was found. It promises to change
// nothing, to take bounded time, and to repeat nothing a stranger sent but short printable text. It is advice: with
// split DNS, or a router that does not loop packets back, a CA sees something else.
package preflight
