// Package endpoint connects to TLS endpoints and reports what they serve.
//
// [Verify] proves that endpoints serve a certificate, for every address, key type and, with STARTTLS, protocol that they
// have. [Examine] reports what an endpoint presents, which clients accept it, and what is wrong with it.
//
// It makes a handful of connections; it changes nothing, keeps nothing, and needs neither the daemon nor the state
// directory. It judges trust only in a [Report].
package endpoint
