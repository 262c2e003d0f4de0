package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// peers are the programs, acmed first.
func peers(acmed string) []peer {
	return []peer{
		{name: "acmed", program: acmed, version: []string{acmed, "version"}, start: func(t *trial) ([]string, error) {
			return []string{acmed, "-c", t.at("acmed.yaml"), "run", "--once"}, acmedConfig(t, "  - { name: one, names: ["+t.name+"] }\n")
		}},
		{name: "uacme", program: "uacme", version: []string{"uacme", "--version"}, webroot: true, start: uacme},
		{name: "caddy", program: "caddy", version: []string{"caddy", "version"}, file: "data/caddy/certificates/*/*/*.crt", start: caddy},
		{name: "mod_md", program: "apache2", version: []string{"dpkg-query", "-W", "libapache2-mod-md"}, file: "md/staging/*/pubcert.pem", start: modMD},
		{name: "certbot", program: "certbot", version: []string{"certbot", "--version"}, start: func(t *trial) ([]string, error) {
			return []string{"certbot", "certonly", "-n", "--standalone", "--http-01-address", "127.0.0.1", "--http-01-port", strconv.Itoa(t.ca.HTTPPort),
				"--server", t.ca.Directory, "--agree-tos", "-m", "ops@example.com", "-d", t.name, "--config-dir", t.at("c"), "--work-dir", t.at("w"), "--logs-dir", t.at("l")}, nil
		}},
		{name: "lego", program: "lego", version: []string{"lego", "--version"}, env: nil, start: func(t *trial) ([]string, error) {
			return []string{"env", "LEGO_CA_CERTIFICATES=" + t.root, "lego", "--server", t.ca.Directory, "--accept-tos", "--email", "ops@example.com", "--path", t.at("lego"),
				"--http", "--http.port", fmt.Sprintf("127.0.0.1:%d", t.ca.HTTPPort), "-d", t.name, "run"}, nil
		}},
		{name: "dehydrated", program: "dehydrated", version: []string{"dpkg-query", "-W", "dehydrated"}, webroot: true, start: dehydrated},
	}
}

// acmedConfig makes the configuration of a state directory in the trial.
func acmedConfig(t *trial, certificates string) error {
	if err := os.Mkdir(t.at("state"), 0o700); err != nil {
		return err
	}
	return t.write("acmed.yaml", fmt.Sprintf(`email: ops@example.com
state_dir: %s
socket: %s
issuers:
  - { name: test-ca, directory: "%s", ca_file: %s, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
preflight: "off"
certificates:
%s`, t.at("state"), t.at("acmed.sock"), t.ca.Directory, t.root, t.ca.HTTPPort, certificates), 0o644)
}

// uacme knows only the roots of the system, so it gets others in a mount namespace.
func uacme(t *trial) ([]string, error) {
	hook := "#!/bin/sh\n[ \"$2\" = http-01 ] || exit 1\ncase $1 in begin) printf %s \"$5\" >" + t.at("webroot/.well-known/acme-challenge") + "/\"$4\" ;; esac\n"
	script := "mount --bind \"$2\" /etc/ssl/certs/ca-certificates.crt\nuacme -a \"$1\" -c \"$3\" -y new ops@example.com && exec uacme -a \"$1\" -c \"$3\" -h \"$4\" issue \"$5\"\n"
	return []string{"unshare", "--mount", "sh", "-ec", script, "sh", t.ca.Directory, t.root, t.at("u"), t.at("hook"), t.name}, t.write("hook", hook, 0o755)
}

func caddy(t *trial) ([]string, error) {
	return []string{"caddy", "run", "--config", t.at("Caddyfile"), "--adapter", "caddyfile"}, t.write("Caddyfile", fmt.Sprintf(`{
	admin off
	http_port %d
	https_port %d
	default_bind 127.0.0.1
}
%s {
	tls {
		issuer acme {
			dir %s
			email ops@example.com
			trusted_roots %s
			disable_tlsalpn_challenge
		}
	}
	respond ok
}
`, t.ca.HTTPPort, t.tls, t.name, t.ca.Directory, t.root), 0o644)
}

// modMD is an Apache of its own with the modules that mod_md wants.
func modMD(t *trial) ([]string, error) {
	if _, err := os.Stat("/usr/lib/apache2/modules/mod_md.so"); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("ServerRoot %s\nServerName localhost\nPidFile %s\nErrorLog %s\nUser www-data\nGroup www-data\nListen 127.0.0.1:%d\nListen 127.0.0.1:%d\n",
		t.dir, t.at("pid"), t.at("error.log"), t.ca.HTTPPort, t.tls)
	for _, module := range []string{"mpm_event", "authz_core", "watchdog", "socache_shmcb", "ssl", "md"} {
		if file := filepath.Join("/usr/lib/apache2/modules", "mod_"+module+".so"); exec.Command("test", "-e", file).Run() == nil {
			text += "LoadModule " + module + "_module " + file + "\n"
		}
	}
	text += fmt.Sprintf(`MDStoreDir %s
MDCertificateAuthority %s
MDCACertificateFile %s
MDCertificateAgreement accepted
MDContactEmail ops@example.com
MDPortMap 80:%d 443:%d
MDomain %s
<VirtualHost *:%[5]d>
ServerName %[6]s
SSLEngine on
</VirtualHost>
`, t.at("md"), t.ca.Directory, t.root, t.ca.HTTPPort, t.tls, t.name)
	return []string{"apache2", "-X", "-f", t.at("apache.conf")}, t.write("apache.conf", text, 0o644)
}

func dehydrated(t *trial) ([]string, error) {
	config := fmt.Sprintf("CA=%s\nCURL_OPTS=\"--cacert %s\"\nWELLKNOWN=%s\nBASEDIR=%s\nCONTACT_EMAIL=ops@example.com\n", t.ca.Directory, t.root, t.at("webroot/.well-known/acme-challenge"), t.at("d"))
	script := "mkdir \"$3\"; dehydrated -f \"$1\" --register --accept-terms && exec dehydrated -f \"$1\" -c -d \"$2\""
	return []string{"sh", "-ec", script, "sh", t.at("config"), t.name, t.at("d")}, t.write("config", config, 0o644)
}
