package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// linger is how long a connection that nobody uses stays open for the next certificate.
const linger = 10 * time.Second

// Host is another machine with the connection that its targets share. It is safe for concurrent use and implements
// [change.Disk].
type Host struct {
	config Config
	read   func(path string) (certs.Secret, error)

	mu    sync.Mutex
	users int
	conn  *connection // nil when there is none
	idle  *time.Timer
}

// NewHost makes the host of a valid configuration; read reads a secret from its file. It touches neither network nor disk.
func NewHost(c Config, read func(path string) (certs.Secret, error)) *Host {
	return &Host{config: c, read: read}
}

// use keeps the connection open until the returned function is called.
func (h *Host) use() (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	if h.idle != nil {
		h.idle.Stop()
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.users--; h.users == 0 {
			h.idle = time.AfterFunc(linger, h.hangUp)
		}
	}
}

func (h *Host) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		h.drop()
	}
}

// drop closes the connection. The caller holds mu.
func (h *Host) drop() {
	if h.conn != nil {
		h.conn.close()
		h.conn = nil
	}
}

// with does something over the connection, which it opens first where there is none. A connection that was cut since its last
// use is opened again, once.
func (h *Host) with(do func(c *connection) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := h.conn == nil
	for {
		if h.conn == nil {
			c, err := h.dial()
			if err != nil {
				return &change.UnreachableError{Err: fmt.Errorf("connect to %s@%s: %w", h.config.User, h.config.Host, err)}
			}
			h.conn = c
		}
		err := h.bounded(do)
		if err == nil || h.conn.alive() {
			return err
		}
		h.drop()
		if fresh {
			return &change.UnreachableError{Err: fmt.Errorf("the connection to %s was cut: %w", h.config.Host, err)}
		}
		fresh = true
	}
}

// bounded closes a connection that does not answer in time.
func (h *Host) bounded(do func(c *connection) error) error {
	c := h.conn
	timer := time.AfterFunc(h.config.timeout(), c.close)
	defer timer.Stop()
	return do(c)
}

// run runs a command and returns an error with the end of its output.
func (h *Host) run(ctx context.Context, argv []string) error {
	return h.with(func(c *connection) error {
		stop := context.AfterFunc(ctx, c.close)
		defer stop()
		output, err := c.exec(quote(argv), nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var exit *ssh.ExitError
		if errors.As(err, &exit) {
			return &installers.CommandError{Argv0: argv[0] + " on " + h.config.Host, ExitCode: exit.ExitStatus(), Output: string(output), Err: fmt.Errorf("exit status %d", exit.ExitStatus())}
		}
		return err
	})
}

// Inspect implements [change.Disk].
func (h *Host) Inspect(path string) (s change.State, content []byte, err error) {
	err = h.with(func(c *connection) error {
		var err error
		s, content, err = c.files.inspect(path)
		return err
	})
	return s, content, h.explain(path, err)
}

// Put implements [change.Disk].
func (h *Host) Put(path string, s change.State, content []byte) error {
	return h.explain(path, h.with(func(c *connection) error { return c.files.put(path, s, content) }))
}

func (h *Host) explain(path string, err error) error {
	var away *change.UnreachableError
	if err == nil || errors.As(err, &away) {
		return err
	}
	return fmt.Errorf("%s:%s: %w", h.config.Host, path, err)
}

// connection is an open connection. Its methods are called one at a time.
type connection struct {
	client *ssh.Client
	files  remoteFiles
	closed chan struct{}
	once   sync.Once
}

func (c *connection) close() {
	c.once.Do(func() { close(c.closed); _ = c.client.Close() })
}

// alive asks the other side.
func (c *connection) alive() bool {
	select {
	case <-c.closed:
		return false
	default:
	}
	timer := time.AfterFunc(5*time.Second, c.close)
	defer timer.Stop()
	_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
	return err == nil
}

// exec runs a command line and returns what it wrote, on both ways out, bounded.
func (c *connection) exec(line string, stdin []byte) ([]byte, error) {
	session, err := c.client.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close() //nolint:errcheck // ended by now
	output := &beginning{most: maxOutput}
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(stdin), output, output
	err = session.Run(line)
	return output.kept, err
}

// maxOutput bounds what is read of a file or a command.
const maxOutput = 4 << 20

// beginning keeps the beginning of what is written. It is safe for concurrent use.
type beginning struct {
	mu   sync.Mutex
	most int
	kept []byte
}

// Write never fails.
func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p[:min(len(p), b.most-len(b.kept))]...)
	return len(p), nil
}

// quote writes a command so that a POSIX shell passes each word on as it is.
func quote(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// dial connects and logs in.
func (h *Host) dial() (*connection, error) {
	auth, done, err := h.auth()
	if err != nil {
		return nil, err
	}
	defer done()
	host, port := h.config.address()
	address := net.JoinHostPort(host, port)
	var client *ssh.Client
	tries, check, err := h.hostKeys(address)
	if err != nil {
		return nil, err
	}
	var other *hostKeyError // says more than that a kind of key is not offered
	for _, algorithms := range tries {
		client, err = ssh.Dial("tcp", address, &ssh.ClientConfig{
			User: h.config.User, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: check, HostKeyAlgorithms: algorithms, Timeout: h.config.timeout(),
		})
		if err == nil {
			break
		}
		var none *ssh.AlgorithmNegotiationError
		if !errors.As(err, &other) && !errors.As(err, &none) {
			break
		}
	}
	if err != nil && other != nil {
		return nil, other
	}
	if err != nil {
		return nil, err
	}
	c := &connection{client: client, closed: make(chan struct{})}
	c.files = newFiles(c)
	return c, nil
}

// auth is the way to log in, and what closes it.
func (h *Host) auth() (ssh.AuthMethod, func(), error) {
	if h.config.Agent != "" {
		conn, err := new(net.Dialer).DialContext(context.Background(), "unix", h.config.Agent)
		if err != nil {
			return nil, nil, fmt.Errorf("agent: %w", err)
		}
		return ssh.PublicKeysCallback(agent.NewClient(conn).Signers), func() { _ = conn.Close() }, nil
	}
	text, err := h.read(h.config.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("key_file: %w", err)
	}
	key, err := ssh.ParsePrivateKey(append(slices.Clip([]byte(text)), '\n'))
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, nil, fmt.Errorf("key_file: %s has a passphrase; use an agent, or a key without one that only this machine may use", h.config.KeyFile)
	case err != nil:
		return nil, nil, fmt.Errorf("key_file: %s has no private key that can be used", h.config.KeyFile)
	}
	return ssh.PublicKeys(key), func() {}, nil
}

// hostKeyError says that the machine has another host key than the one that is pinned.
type hostKeyError struct {
	host, got, want string
}

// Error names both keys.
func (e *hostKeyError) Error() string {
	return fmt.Sprintf("%s shows the host key %s, and %s is pinned: if the machine was reinstalled, compare the key there and change the configuration; "+
		"if not, another machine answers", e.host, e.got, e.want)
}

// hostKeys returns the algorithms to ask for, one try after the other, and what judges the host key.
func (h *Host) hostKeys(address string) (tries [][]string, check ssh.HostKeyCallback, err error) {
	if h.config.HostKey != "" {
		check = func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != h.config.HostKey {
				return &hostKeyError{h.config.Host, got, h.config.HostKey}
			}
			return nil
		}
		for _, kind := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA} {
			tries = append(tries, algorithms(kind))
		}
		return tries, check, nil
	}
	known, err := knownHosts(h.config.KnownHosts)
	if err != nil {
		return nil, nil, fmt.Errorf("known_hosts: %w", err)
	}
	check = func(name string, addr net.Addr, key ssh.PublicKey) error {
		err := known(name, addr, key)
		var other *knownhosts.KeyError
		if !errors.As(err, &other) {
			return err
		}
		want := "none in " + h.config.KnownHosts
		if len(other.Want) > 0 {
			want = ssh.FingerprintSHA256(other.Want[0].Key) + " in " + h.config.KnownHosts
		}
		return &hostKeyError{h.config.Host, ssh.FingerprintSHA256(key), text.Tail(want, text.Most)}
	}
	var other *knownhosts.KeyError
	if errors.As(known(address, &net.TCPAddr{}, noKey{}), &other) {
		for _, k := range other.Want { // only a key of a kind that is known can be the right one
			tries = append(tries, algorithms(k.Key.Type()))
		}
	}
	if len(tries) == 0 {
		tries = [][]string{nil} // the host is not in the file, which the check will say
	}
	return tries, check, nil
}

// knownHosts reads the file by the descriptor that was vetted: the parser takes only names.
func knownHosts(path string) (ssh.HostKeyCallback, error) {
	f, err := vetted.Open(path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	byDescriptor := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	known, err := knownhosts.New(byDescriptor)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), byDescriptor, path))
	}
	return known, err
}

// algorithms are the signatures of a kind of host key.
func algorithms(kind string) []string {
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// noKey is a key that no host has.
type noKey struct{}

// Type is the name of no kind of key.
func (noKey) Type() string { return "none" }

// Marshal returns nothing.
func (noKey) Marshal() []byte { return nil }

// Verify fails.
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
