// Package command installs a certificate by running a program of the operator's: the way to everything that has no plugin
// of its own. It also runs the hooks of a certificate ([Hook]).
//
// The program is started directly, never by a shell, with a clean environment, a deadline and bounded output. It learns
// where the certificate is from its environment; the private key is passed by path alone. Exit code 0 means installed, 75
// (EX_TEMPFAIL of sysexits.h) that it wants to be called later, anything else that it failed.
//
// These variables are set, all of them about the certificate that is live at that moment:
//
//	ACMED_EVENT            install, check, pre or post: why the program runs
//	ACMED_CERTIFICATE      the certificate's name in the configuration
//	ACMED_NAMES            its DNS names and IP addresses, separated by spaces
//	ACMED_CERT             path of the certificate alone, PEM
//	ACMED_CHAIN            path of its issuers, PEM
//	ACMED_FULLCHAIN        path of certificate and issuers, PEM
//	ACMED_KEY              path of the private key, PEM; not set when the key stays with the operator
//	ACMED_RSA_CERT         the same four of the RSA twin; set for a certificate with two keys only
//	ACMED_RSA_CHAIN
//	ACMED_RSA_FULLCHAIN
//	ACMED_RSA_KEY
//	ACMED_FINGERPRINT      SHA-256 of the certificate in hexadecimal; of both, joined by "+", when there are two
//	ACMED_SERIAL           serial number in hexadecimal
//	ACMED_NOT_AFTER        when it ends, RFC 3339
//	ACMED_ISSUER           configured name of the issuer
//	ACMED_NODE             of pre and post in a fleet: what it calls this machine
//	ACMED_OBTAINED         of post: true if this machine obtained the version, false if it took that of another node
//	RENEWED_LINEAGE        directory of the files, by a link that ends in the name of the certificate, as certbot calls it
//	RENEWED_DOMAINS        the same as ACMED_NAMES, as certbot calls it
//	LEGO_CERT_DOMAIN       the first name, as lego calls it
//	LEGO_CERT_PATH         the same as ACMED_FULLCHAIN
//	LEGO_CERT_KEY_PATH     the same as ACMED_KEY
//	LEGO_ISSUER_CERT_PATH  the same as ACMED_CHAIN
//
// Before the first order there is no certificate, and the variables from ACMED_FINGERPRINT to ACMED_ISSUER are not set.
//
// What a program has done cannot be taken back here: there is no uninstall.
package command
