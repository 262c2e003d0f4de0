package advice

import "slices"

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
	return slices.Concat(causes(), machine(), fleets(), details(), orders(), deliveries())
}

// causes are about this machine and what it can reach.
func causes() []Entry {
	return []Entry{
		{
			DiskFull,
			"the disk is full",
			"No space, inodes or quota are left on the file system that acmed or the server writes to.",
			"Free space on the file system in the message ('df -h', 'df -i'), then run 'acmed renew'.",
		},
		{
			ClockWrong,
			"the clock of this machine is wrong",
			"By this clock, the certificate of the CA's server is expired or not valid yet. The usual cause is a wrong clock.",
			"Compare 'date -u' with another machine and set the clock ('timedatectl set-ntp true'), then run 'acmed doctor'.",
		},
		{
			CAUntrusted,
			"untrusted server certificate",
			"The issuer of the certificate is unknown here, or the certificate is for another name. Common causes: a private CA without ca_file, outdated root certificates, or a proxy that intercepts TLS.",
			"For a private CA, set its root as ca_file of the issuer. Otherwise update ca-certificates and check for a proxy that intercepts TLS.",
		},
		{
			PortTaken,
			"the challenge port is in use",
			"Another program listens on the port, so it receives the requests of the CA.",
			"Let that web server forward challenges ('acmed snippet' prints the configuration), use its webroot as solver, or stop the program.",
		},
		{
			StateLocked,
			"another acmed process uses the state directory",
			"Only one process may write to the state directory at a time, normally the daemon.",
			"Run the command with the configuration of the daemon, so that it uses the daemon's socket, or stop the other process.",
		},
		{
			HelperUnreachable,
			"the helper acmed-installd is unreachable",
			"The daemon runs without root and passes installations to acmed-installd, whose socket does not respond.",
			"Run 'systemctl enable --now acmed-installd.socket', then 'acmed renew'.",
		},
		{
			NoPermission,
			"permission denied",
			"The user that runs acmed may not read, write, listen or connect at the place in the message, or its file system is mounted read-only.",
			"Run the command with sudo, or add your user to the group acmed. For the daemon, give its user access to the file or port in the message, or remount the file system.",
		},
	}
}

// machine is about the daemon and its configuration.
func machine() []Entry {
	return []Entry{
		{
			DaemonNotRunning,
			"no acmed daemon is running",
			"Nothing renews certificates between two commands, so they will expire.",
			"Run 'systemctl enable --now acmed', or 'acmed run' where systemd does not run; without a daemon run 'acmed renew' every day.",
		},
		{
			DaemonStuck,
			"the acmed daemon is stuck",
			"The daemon runs, but its scheduler or all of its jobs hang.",
			"Run 'systemctl restart acmed', and report the log lines before it ('journalctl -u acmed') as a bug.",
		},
		{
			ConfigBroken,
			"a configuration file is broken",
			"acmed keeps running without that file, or with its previous content, so the certificates in it are not managed as written.",
			"Run 'acmed check', fix the reported line, then run 'acmed reload'.",
		},
	}
}

// fleets are about the store that the nodes of a fleet share.
func fleets() []Entry {
	return []Entry{
		{
			StoreUnreachable,
			"the fleet's store is unreachable",
			"etcd does not answer this node. Common causes: members that are down, a firewall, or a wrong endpoint. Certificates are served as before; renewals wait.",
			"Check each member ('acmed doctor', 'etcdctl endpoint health') and fleet.etcd.endpoints. acmed retries automatically.",
		},
		{
			StoreNoQuorum,
			"the fleet's store has no leader",
			"No majority of etcd's members can reach each other, so etcd accepts no change. Certificates are served as before; renewals wait.",
			"Start the members that are down, or repair the network between them ('etcdctl endpoint status').",
		},
		{
			StoreFull,
			"the fleet's store is full",
			"etcd has reached its quota (2 GB by default) and accepts no change until its alarm is cleared. Certificates are served as before; renewals wait.",
			"Compact and defragment etcd, then run 'etcdctl alarm disarm'. Set ETCD_AUTO_COMPACTION_RETENTION=1h so that it does not happen again.",
		},
		{
			StoreDenied,
			"the fleet's store denied access",
			"The user named in the client certificate does not exist in etcd, or its role does not cover the keys of the fleet.",
			"Compare the common name of fleet.etcd.cert_file with 'etcdctl user get NAME', and its role with docs/guides/fleets.md.",
		},
		{
			StoreUntrusted,
			"a value in the fleet's store is not trusted",
			"The value does not open with the seal key, was copied from another place, or cannot be read. A user of etcd changed it, or nodes have different seal keys. acmed does not use it.",
			"Run 'acmed fleet status' on each node, compare the files in fleet.seal_files, and check which users may write to etcd.",
		},
		{
			FleetMissing,
			"the store has no such fleet",
			"Nothing was prepared in etcd for the fleet's name, or etcd lost it.",
			"Run 'acmed fleet init' once, on one node. If the fleet existed before, compare fleet.name and fleet.etcd.endpoints with another node first.",
		},
		{
			SealKeyWrong,
			"the seal key is not the fleet's",
			"No file in fleet.seal_files has a key that the fleet knows, so this node can neither read nor write what is shared.",
			"Copy the seal key from a node that works, and restart acmed. If no node has it any more, run 'acmed fleet init --again'.",
		},
	}
}

// orders are about names and the CA.
func orders() []Entry {
	return append(proofs(), []Entry{
		{
			FailedTooOften,
			"too many failed validations of the name",
			"acmed stops before the limit of the CA is reached, because CAs block names and accounts that keep failing.",
			"Fix the cause of the earlier failures ('acmed status NAME', 'acmed doctor NAME'). acmed retries at the time in the message.",
		},
		{
			NameRefused,
			"the CA rejects this name",
			"The policy of the CA excludes the name: it is internal, blocked, or of an unsupported kind.",
			"Remove the name from the certificate, or use another CA.",
		},
		{
			ProfileNotOffered,
			"the CA does not offer the profile",
			"Each CA has its own profiles and may withdraw them.",
			"Set profile to one that the message or the documentation of the CA lists (IP addresses at Let's Encrypt need shortlived), or remove it.",
		},
		{
			AccountRefused,
			"the CA rejects the account",
			"The CA requires an external account binding, new terms of service or another contact, or it no longer knows the account or its key.",
			"Set eab, agree_tos or email as the documentation of the CA says. If the account key was replaced, run 'acmed account recover ISSUER KEYFILE' with the new one.",
		},
		{
			CertificateRefused,
			"acmed rejected the issued certificate",
			"The certificate has the wrong key, wrong names, an impossible validity or an incomplete chain, so acmed does not use it.",
			"Check the clock first. Then report it to the CA, or configure another issuer.",
		},
		{
			CAUnreachable,
			"the CA is unavailable",
			"acmed got no usable answer. Common causes: DNS, network, firewall, a required proxy, or an outage of the CA.",
			"Check the status page of the CA and the network ('acmed doctor'). If this machine needs a proxy, set proxy of the issuer. acmed retries automatically.",
		},
	}...)
}

// details are about validations that the wording of the CA tells more of.
func details() []Entry {
	return []Entry{
		{
			AccountPaused,
			"the CA paused the account for these names",
			"The names failed so often that the CA accepts no further order for them until an operator lifts the pause.",
			"Fix the cause of the failures ('acmed doctor NAME'), open the address in the message to lift the pause, then run 'acmed renew NAME'.",
		},
		{
			RedirectRefused,
			"the CA rejected a redirect of the server",
			"The server redirects the challenge in a loop, to an IP address, or to a port other than 80 and 443.",
			"Exclude /.well-known/acme-challenge/ from the redirects of the server ('acmed snippet' prints the configuration), then run 'acmed renew'.",
		},
		{
			PrivateAddress,
			"the name has no public address",
			"The A and AAAA records are missing, or have only addresses that are not reachable from the internet.",
			"Publish a public address for the name, or validate it with dns-01, which needs no connection.",
		},
		{
			ServerSlow,
			"the server answered the CA too late",
			"The CA connected, but got no complete answer in time. The server is overloaded, or a firewall drops packets after the connect.",
			"Check the load and the error log of the server and every firewall in between, then run 'acmed renew'.",
		},
		{
			StapleRefused,
			"the CA does not support must-staple",
			"The configuration requests the OCSP must-staple extension, which the CA does not issue.",
			"Remove must_staple from the certificate, or use another issuer.",
		},
		{
			NotSupported,
			"the CA does not support this operation",
			"The directory of the CA lacks the operation, or the CA answers with status 404 or 501.",
			"Keep the key of the account, or close the account ('acmed account deactivate ISSUER'). The next order then registers a new one.",
		},
	}
}

// proofs are about validations.
func proofs() []Entry {
	return []Entry{
		{
			RateLimited,
			"rate limit of the CA reached",
			"A limit of the CA is used up: too many certificates for these names, too many orders, or too many failures.",
			"Wait until the time in the message, when acmed retries; --force does not override it. Use a staging CA for tests.",
		},
		{
			DNSSECBroken,
			"DNSSEC of the name is invalid",
			"The zone's DNSSEC signatures are invalid, so CAs reject its answers.",
			"Fix the zone, or the DS record at the registrar (dnsviz.net shows the fault), then run 'acmed doctor'.",
		},
		{
			CAAForbids,
			"CAA records forbid this CA",
			"The CAA records in the DNS zone list the CAs that may issue for the name, and this CA is not one of them.",
			"Add the CAA record that 'acmed doctor' prints, or use an issuer that is allowed.",
		},
		{
			ResolverSilent,
			"the DNS resolver of this machine does not answer",
			"No server of /etc/resolv.conf, or of probe.resolver, answered. This says nothing about the name.",
			"Check the resolver that the message names (dig @ADDRESS NAME), or set probe.resolver to another one.",
		},
		{
			NameNotResolved,
			"the name does not resolve",
			"The DNS has no address for the name, or its name servers do not respond.",
			"Add an A or AAAA record with the address of this machine, wait for the DNS, and check with 'acmed doctor'.",
		},
		{
			ProxyInFront,
			"a proxy or CDN answers for the name",
			"The proxy answers instead of this machine, so the challenge response never reaches the CA.",
			"Let the proxy forward /.well-known/acme-challenge/ to this machine, or validate the name with dns-01.",
		},
		{
			WrongAnswer,
			"another server answered the CA",
			"The CA reached a server that does not know the challenge. Either the name points elsewhere, or another site answers for it.",
			"If the message names another directory than the webroot, make both the same. Otherwise check that every A and AAAA record points to this machine ('acmed doctor NAME').",
		},
		{
			PortClosed,
			"the CA could not connect",
			"Nothing answers on port 80 (http-01) or 443 (tls-alpn-01) at the address of the name. Common causes: a stopped server, a firewall, a router, or a wrong address.",
			"Start the server if the message names a stopped one. Otherwise open the port in every firewall, for IPv4 and IPv6 ('acmed doctor NAME'), or use dns-01.",
		},
		{
			WebrootUnusable,
			"the webroot cannot be used",
			"The directory of the http-01 solver does not exist, or acmed may not write into it.",
			"Create the directory or correct webroot in the solver. acmed must be able to write there (owner, mode, ReadWritePaths= of the unit).",
		},
		{
			DNSRefused,
			"the DNS provider rejected the record",
			"The token, key or account of the solver is wrong, expired, or may not change this zone.",
			"Check the credentials of the solver in the message against the provider's console, then run 'acmed renew'.",
		},
		{
			DNSPropagation,
			"the challenge record is not visible in the DNS",
			"The provider accepted the record, but not every name server of the zone has it, or the CA queries other name servers.",
			"Compare the NS records at the registrar with the provider's, or raise propagation_timeout of the solver.",
		},
	}
}

// deliveries are about servers and clients.
func deliveries() []Entry {
	return []Entry{
		{
			ServerTestFailed,
			"the server's configuration test fails",
			"The server configuration has an error, either before the change of acmed or together with it. acmed changed nothing.",
			"Run the test ('nginx -t', 'apachectl configtest', 'haproxy -c -f FILE'), fix the reported error, then run 'acmed renew'.",
		},
		{
			ServerNotRunning,
			"the server is not running",
			"The certificate is installed, but the server is not running. acmed does not start stopped servers.",
			"Start the server. It serves the certificate from then on.",
		},
		{
			ClientsLockedOut,
			"clients that could connect before cannot any more",
			"The server's protocols or cipher list do not fit the key of the new certificate, so acmed rolled the change back.",
			"Set key_type to rsa2048 or to both key types, or add ECDHE-ECDSA suites to the server's list; then install again.",
		},
		{
			NotServed,
			"the endpoint does not serve the certificate",
			"The endpoint serves another certificate or does not respond. Either the reload had no effect, or another process or site answers on this port.",
			"Run 'acmed probe' to see which certificate is served, reload the server, and check its error log.",
		},
		{
			FileEdited,
			"a file was edited after acmed's change",
			"The file differs from what acmed last wrote, and acmed never overwrites edits made by others.",
			"Check the file in the message. Then repeat the command, or remove acmed's lines by hand.",
		},
		{
			ClientsWouldBreak,
			"new version held: a client would reject it",
			"No chain of the new certificate ends at a root that every listed client trusts. The earlier version stays active.",
			"Run 'acmed trust NAME' to see which client. Import the CA certificates there ('acmed chain NAME'), or run 'acmed activate NAME --anyway'.",
		},
		{
			StateRepaired,
			"acmed repaired its state directory",
			"A file in the state directory was damaged or restored from a backup, so acmed set it aside and rebuilt it from the certificates on disk.",
			"Compare the certificate with 'acmed history NAME', and check the disk and the backup job.",
		},
	}
}
