package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// Fleet makes this machine a node of a fleet: of all machines with the same fleet, one orders each certificate, and all serve
// it. They share certificates, accounts and pending orders through etcd, where private keys are encrypted.
type Fleet struct {
	// Name is the same on all nodes, and keeps several fleets on one etcd apart. The rule is that of an issuer's name.
	Name string `mapstructure:"name"`
	// Etcd says where the store is.
	Etcd Etcd `mapstructure:"etcd"`
	// SealFiles lists the files with the keys that encrypt what is stored in etcd, chmod 600, the same on all nodes: each
	// holds 32 bytes in base64, as "acmed fleet init" prints. The first encrypts, the others only decrypt what was stored
	// before.
	SealFiles Words `mapstructure:"seal_files"`
	// Role is issue, or install for a node that never orders and only takes what others obtained. Default issue.
	Role string `mapstructure:"role"`
	// Node is what the fleet calls this machine. The rule is that of an issuer's name. Default: made of the host name and
	// the machine ID.
	Node string `mapstructure:"node"`
}

// Etcd is an etcd cluster, version 3.4 or later, that you run.
type Etcd struct {
	// Endpoints lists the client URLs of its members, https://HOST:PORT. Plain http is for loopback addresses only.
	Endpoints []string `mapstructure:"endpoints"`
	// CAFile is a PEM file with the roots that the members' certificates are checked against. Default: the system's trust
	// store.
	CAFile string `mapstructure:"ca_file"`
	// CertFile is the PEM file of this node's client certificate, which acmed must not be the one to renew. Its common name
	// is the user in etcd. Optional.
	CertFile string `mapstructure:"cert_file"`
	// KeyFile is the PEM file of its private key, chmod 600.
	KeyFile string `mapstructure:"key_file"`
}

// The values of role.
const (
	RoleIssue   = "issue"
	RoleInstall = "install"
)

// Installs reports whether this node only takes what others obtained.
func (f *Fleet) Installs() bool { return f.Role == RoleInstall }

// machineID is a file with an ID that no other machine has, unless a machine was cloned (machine-id(5)).
const machineID = "/etc/machine-id"

// NodeID is what the fleet calls this machine.
func (f *Fleet) NodeID() (string, error) {
	if f.Node != "" {
		return f.Node, nil
	}
	text, err := os.ReadFile(machineID)
	if err != nil || len(strings.TrimSpace(string(text))) == 0 {
		return "", errors.New("this machine has no " + machineID + "; set a name")
	}
	host, _ := os.Hostname() // without one the ID says enough
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	if !word.MatchString(host) {
		host = "node"
	}
	sum := sha256.Sum256([]byte("acmed node\n" + strings.TrimSpace(string(text))))
	return host[:min(len(host), 40)] + "-" + hex.EncodeToString(sum[:4]), nil
}

// Sealer reads the seal files. No error contains any part of them.
func (f *Fleet) Sealer() (*fleet.Sealer, error) {
	var list []certs.Secret
	for _, file := range f.SealFiles {
		key, err := sealKey(file)
		if err != nil {
			return nil, err
		}
		list = append(list, key)
	}
	return fleet.NewSealer(list...)
}

func sealKey(file string) (certs.Secret, error) {
	text, err := ReadSecret(file)
	if err != nil {
		return nil, err
	}
	key, err := fleet.ParseSealKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func (v *validator) fleet() {
	f := v.c.Fleet
	if f == nil {
		return
	}
	v.name("fleet", f.Name)
	if f.Node != "" && !word.MatchString(f.Node) {
		v.report("fleet.node", "%s is not a name; use a-z, 0-9 and after the first character also . _ -, at most 64", quote(f.Node))
	}
	if f.Role != "" {
		v.oneOf("fleet.role", f.Role, RoleIssue, RoleInstall)
	}
	if len(f.SealFiles) == 0 {
		v.report("fleet.seal_files", "it has no file; make the key with: acmed fleet init")
	}
	for i, file := range f.SealFiles {
		v.check(fmt.Sprintf("fleet.seal_files[%d]", i), checkSecretPath(file))
	}
	v.endpoints(f.Etcd.Endpoints)
	v.etcdFiles(&f.Etcd)
	for i := range v.c.Certificates {
		cert := &v.c.Certificates[i]
		v.shareable(entryPath("certificates", cert.Name), cert)
	}
}

func isSecure(endpoint string) bool { return strings.HasPrefix(endpoint, "https:") }

func (v *validator) endpoints(list []string) {
	if len(list) == 0 {
		v.report("fleet.etcd.endpoints", "it lists no member of the cluster")
	}
	for i, endpoint := range list {
		at := fmt.Sprintf("fleet.etcd.endpoints[%d]", i)
		v.check(at, etcd.CheckEndpoint(endpoint))
		if slices.Contains(list[:i], endpoint) {
			v.report(at, "%s is listed twice", endpoint)
		}
		if isSecure(endpoint) != isSecure(list[0]) {
			v.report("fleet.etcd.endpoints", "either all use https or none does")
		}
	}
}

func (v *validator) etcdFiles(e *Etcd) {
	for key, file := range map[string]string{"ca_file": e.CAFile, "cert_file": e.CertFile, "key_file": e.KeyFile} {
		switch {
		case file == "":
		case !slices.ContainsFunc(e.Endpoints, isSecure):
			v.report("fleet.etcd."+key, "it is of use with https only")
		case key == "key_file":
			v.check("fleet.etcd."+key, checkSecretPath(file))
		default:
			v.check("fleet.etcd."+key, checkPath(file))
		}
	}
	switch {
	case e.CertFile != "" && e.KeyFile == "":
		v.report("fleet.etcd.key_file", "it is needed with cert_file")
	case e.CertFile == "" && e.KeyFile != "":
		v.report("fleet.etcd.cert_file", "it is needed with key_file")
	}
}

// shareable refuses a certificate whose challenge one node could answer alone: the CA reaches any of them. It refuses keys that
// are made ahead as well: each node would make and announce its own, and serve another one after the renewal.
func (v *validator) shareable(path string, cert *Certificate) {
	if cert.OneNode {
		return
	}
	for _, setting := range []struct {
		key string
		set bool
	}{{"next_key", cert.NextKey}, {"tlsa", cert.TLSA != nil}} {
		if setting.set {
			v.report(path+"."+setting.key, "nodes of a fleet do not share the next key; remove it, or set one_node: true if this certificate is configured on one node only")
		}
	}
	for _, name := range v.c.solversOf(cert) {
		s, ok := v.c.Solver(name)
		if ok && s.HTTP01 != nil && s.HTTP01.Webroot+s.HTTP01.ChallengeDir != "" && !s.HTTP01.OneNode {
			v.report(path+".solvers", "the solver %s writes to a webroot of this node, and the CA may ask another node; use stateless: true with the line of "+
				"\"acmed snippet --stateless\", or a solver with listen: behind the web server, or set one_node: true if this certificate is configured on one node only", quote(name))
		}
	}
}

// fleetFiles looks at the files that the fleet needs.
func (v *validator) fleetFiles() {
	f := v.c.Fleet
	if f == nil {
		return
	}
	if _, err := f.NodeID(); err != nil {
		v.also("fleet.node", err)
	}
	for i, file := range f.SealFiles {
		_, err := sealKey(file)
		v.also(fmt.Sprintf("fleet.seal_files[%d]", i), err)
	}
	connection := f.Etcd.Connection()
	_, err := connection.Roots()
	v.also("fleet.etcd.ca_file", err)
	if f.Etcd.CertFile != "" && f.Etcd.KeyFile != "" {
		_, err := connection.Pair()
		v.also("fleet.etcd.cert_file", err)
	}
}

// Connection is what the driver needs to know.
func (e *Etcd) Connection() etcd.Config {
	return etcd.Config{
		Endpoints: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile,
		ReadKey: func(file string) ([]byte, error) { return ReadSecret(file) },
	}
}
