// Package file installs a certificate as plain files: PEM in the usual pieces or combined, DER, PKCS#12 and Java key
// stores, with owner, group and mode set before a file appears under its name. It reloads a systemd unit or runs a
// command afterwards, and proves the result at the endpoints that the operator lists.
//
// All files of one target change together or not at all. It neither creates directories nor touches a file that is not
// named in its configuration.
package file
