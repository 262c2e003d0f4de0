// Package tlsalpn01 answers tls-alpn-01 challenges (RFC 8737, and RFC 8738 for IP addresses) from an own TLS listener.
//
// It promises to be of no use for anything else: only a handshake that offers the protocol acme-tls/1 for a name with a
// pending challenge is completed, and the connection is closed right after it. Any other client gets an alert and no
// certificate. There is no web server behind the listener. Connections are bounded in number and time.
//
// On a machine with a web server, something in front has to route by ALPN; package snippet has the text for it.
package tlsalpn01
