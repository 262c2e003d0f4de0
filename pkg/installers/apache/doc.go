// Package apache installs certificates into Apache httpd by editing its configuration files in place.
//
// Which virtual hosts, names, files, modules and variables are in force it asks Apache itself
// (-t -D DUMP_VHOSTS -D DUMP_INCLUDES …), so macros, conditions, environment and order are resolved by the only program
// that knows. It owns a lossless reader of Apache's lines and sections, and the edits that make the virtual hosts of a
// certificate serve a lineage:
//
//   - What acmed adds to a file stands between "# acmed begin NAME" and "# acmed end NAME" before the end of a virtual
//     host. A line that must not be in force beside it gets "# acmed off NAME: " in front: an SSLCertificateFile or
//     SSLCertificateKeyFile would be served to some clients as well, and an SSLCertificateChainFile would be sent with a
//     certificate that it does not belong to (the full chain is in the lineage's own file). No line is ever removed, and
//     taking the marks away gives back the file.
//   - A site without TLS gets a twin: its virtual host again, on the TLS port, in a file of its own. From then on the twin
//     is a virtual host like any other.
//   - What several certificates share, a Listen directive or a module that was enabled, is noted in acmed.conf and goes
//     with the last certificate.
//
// Every change goes through change.Change: tested before and after, compared with what Apache then says about its
// virtual hosts, reloaded, and proved by a TLS handshake for every name, or every byte is put back. A renewal edits
// nothing.
//
// Apache passes its own test and goes down at the next reload when a key does not belong to its certificate, or when a
// port it shall listen on is taken. Both are checked before anything is reloaded. A stopped server is never started.
// Where a change cannot be made safely the error says file and line.
package apache
