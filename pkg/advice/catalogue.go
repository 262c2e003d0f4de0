package advice

// Entry is what is known about one code, each in one line. Details such as the name, the port or the time are in the
// error itself.
type Entry struct {
	Code Code   `json:"code"`
	What string `json:"what"`
	Why  string `json:"why"`
	Do   string `json:"do"`
}

// Lookup returns the entry of a code.
func Lookup(c Code) (Entry, bool) {
	for _, e := range All() {
		if e.Code == c {
			return e, true
		}
	}
	return Entry{}, false
}

// All is the catalogue. Of several codes in one error the first counts; those of causes come before all others.
func All() []Entry {
	return append(causes(), append(orders(), deliveries()...)...)
}

// causes are about this machine and what it can reach.
func causes() []Entry {
	return []Entry{
		{
			DiskFull,
			"the disk is full",
			"No space, or no quota, is left where acmed or the server writes.",
			"Free space on the file system that the message names (df -h, df -i), then run acmed renew.",
		},
		{
			ClockWrong,
			"the clock of this machine and a certificate disagree",
			"By this clock the certificate of the CA's own server has expired or is not valid yet; the clock is the usual reason.",
			"Compare date -u with another machine, set the clock (timedatectl set-ntp true), then run acmed doctor.",
		},
		{
			CAUntrusted,
			"the certificate of a server that acmed asks is not trusted",
			"This machine does not know who issued it, or it is for another name: an own CA without ca_file, old root certificates, or a proxy that intercepts TLS.",
			"For an own CA give its root as ca_file of the issuer; otherwise update ca-certificates and look for a proxy in between.",
		},
		{
			PortTaken,
			"the port for the challenge is taken",
			"Another program listens where acmed has to answer, so the CA would ask that program.",
			"Let that web server answer (acmed snippet shows how), use its webroot as solver, or stop the program.",
		},
		{
			StateLocked,
			"another acmed uses the state directory",
			"Only one process may write there at a time; normally it is the daemon.",
			"Ask the running daemon (the same command, with the socket of its configuration), or stop the other process.",
		},
		{
			HelperUnreachable,
			"the helper that changes servers cannot be reached",
			"The daemon runs without root and hands installations to acmed-installd, and nothing answers on its socket.",
			"Run systemctl enable --now acmed-installd.socket, then acmed renew.",
		},
		{
			NoPermission,
			"the operating system does not permit it",
			"The user that runs acmed may not read, write, listen or connect there.",
			"Run the command as root or as acmed's own user, or give that user access to what the message names.",
		},
	}
}

// orders are about names and the CA.
func orders() []Entry {
	return append(proofs(), []Entry{
		{
			FailedTooOften,
			"the name failed too often within an hour",
			"acmed stops before the CA does, because CAs block names and accounts that keep failing.",
			"Remove the reason for the earlier failures (acmed status NAME, acmed doctor NAME); it goes on by itself at the time in the message.",
		},
		{
			NameRefused,
			"the CA does not issue for this name",
			"Its policy excludes the name: internal, blocked, or of a kind that it does not support.",
			"Take the name out of the certificate, or use another CA.",
		},
		{
			ProfileNotOffered,
			"the CA does not offer the profile",
			"Profiles differ from CA to CA and come and go.",
			"Set profile to one that the message lists, or remove it.",
		},
		{
			AccountRefused,
			"the CA does not accept the account",
			"It wants an external account binding, agreement to new terms or another contact, or it does not know the account any more.",
			"Set eab or email as the CA's documentation says, and look with acmed account show.",
		},
		{
			CertificateRefused,
			"acmed refuses what the CA returned",
			"The certificate has another key, other names, an impossible validity or a chain that does not build, so it is not used.",
			"Look at the clock first; then tell the CA, or let another issuer take over.",
		},
		{
			CAUnreachable,
			"the CA cannot be reached",
			"No usable answer came: DNS, network, firewall, proxy, or trouble at the CA.",
			"Look at the CA's status page, and try from this machine: acmed doctor, curl -v DIRECTORY. acmed tries again by itself.",
		},
	}...)
}

// proofs are about showing a CA that a name is ours.
func proofs() []Entry {
	return []Entry{
		{
			RateLimited,
			"the CA takes no more orders for now",
			"A limit of the CA is used up: too many certificates for these names, too many orders, or too many failures.",
			"Wait until the time in the message: acmed goes on by itself then. Meanwhile do not force, and rehearse with a staging CA.",
		},
		{
			DNSSECBroken,
			"DNSSEC of the name is broken",
			"The signatures of the zone do not verify, and CAs accept no answer that does not.",
			"Mend the zone, or the DS record at the registrar (dnsviz.net shows what is wrong), then run acmed doctor.",
		},
		{
			CAAForbids,
			"CAA records forbid this CA",
			"The DNS zone lists the CAs that may issue for the name, and this one is not among them.",
			"Add the CAA record that acmed doctor shows, or use an issuer that is allowed.",
		},
		{
			NameNotResolved,
			"the name does not resolve",
			"The DNS has no address for it, or its name servers do not answer.",
			"Add an A or AAAA record that leads to this machine, wait for the DNS, and look with acmed doctor.",
		},
		{
			ProxyInFront,
			"a proxy or CDN stands in front of the name",
			"It answers instead of this machine, so the answer to the challenge never reaches the CA.",
			"Let it pass /.well-known/acme-challenge/ through to this machine, or prove the name with dns-01.",
		},
		{
			WrongAnswer,
			"something else answered the CA",
			"The CA reached a server that does not know the challenge: the name leads elsewhere, or another site answers for it.",
			"Check that every A and AAAA record leads here, and that the web server passes the challenge to acmed (acmed snippet).",
		},
		{
			PortClosed,
			"the CA could not connect",
			"Nothing answers on port 80 (http-01) or 443 (tls-alpn-01) at the address of the name: a firewall, a router, or the wrong address.",
			"Open the port in every firewall on the way, for IPv4 and IPv6, or prove the name with dns-01.",
		},
		{
			DNSRefused,
			"the DNS provider did not take the record",
			"The token, key or account of the solver is wrong, has expired, or may not change this zone.",
			"Check the credentials of the solver that the message names against the provider's console, then run acmed renew.",
		},
		{
			DNSPropagation,
			"the challenge record is not visible in the DNS",
			"The provider took it, but not every name server of the zone shows it, or the CA asks other ones.",
			"Compare the NS records at the registrar with the provider's, or raise propagation_timeout of the solver.",
		},
	}
}

// deliveries are about servers and clients.
func deliveries() []Entry {
	return []Entry{
		{
			ServerTestFailed,
			"the server's own configuration test fails",
			"Its configuration has a mistake, in a line of your own or together with the change; nothing was left changed.",
			"Run the test yourself (nginx -t, apachectl configtest, haproxy -c), mend what it names, then run acmed renew.",
		},
		{
			ServerNotRunning,
			"the server is not running",
			"The certificate is in place, but nobody is there to serve it; acmed starts no server that you stopped.",
			"Start the server: it serves the certificate from then on.",
		},
		{
			NotServed,
			"the endpoint does not serve the new certificate",
			"It still shows another one, or does not answer: the reload had no effect, another server has the port, or another site comes first.",
			"Look who answers with acmed probe, reload the server by hand, and read its error log.",
		},
		{
			FileEdited,
			"a file was changed by somebody else",
			"It is not what acmed last wrote, and acmed overwrites nothing that it does not know.",
			"Look at the file that the message names; then repeat the command, or take acmed's part out by hand.",
		},
		{
			ClientsWouldBreak,
			"a new version waits because clients would refuse it",
			"No chain of the new certificate leads to a root that every client of the list knows; the earlier version stays in use.",
			"See which with acmed trust NAME; give those clients the root (acmed chain NAME), or run acmed activate NAME --anyway.",
		},
	}
}
