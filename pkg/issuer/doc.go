// Package issuer obtains certificates from one ACME CA (RFC 8555) under one account: it registers the account, places
// orders, has their challenges answered, and returns a bundle that was checked against what was asked for. It also asks
// for renewal windows (RFC 9773), revokes, and looks after the account.
//
// It promises that
//   - all names of an order are validated at the same time, and that cancelling returns within a second;
//   - the account is stored before the first order, the private key and the order URL before finalize, so that a crash
//     at any point costs neither: the next [Issuer.Obtain] goes on with the stored order;
//   - whatever the CA sends is bounded in size and time and never trusted: URLs stay on the CA's host, tokens and nonces
//     are checked, the certificate belongs to our key and has exactly our names;
//   - every answer presented by a solver is cleaned up, whatever happened to the order;
//   - every error says by its type, from package certs, when another try makes sense.
//
// It does not decide when to renew, does not count failures, and does not store certificates: an issued bundle belongs
// to the caller, who stores it and thereby drops the pending order. One Issuer serves any number of concurrent calls;
// there must be only one for each directory and contact, because it owns that account.
package issuer
