package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// store is a cluster of three members, each a process.
type store struct {
	dir     string
	members []*member
}

type member struct {
	name, data, client, peer string
	cmd                      *exec.Cmd
}

func newStore(dir string) (*store, error) {
	s := &store{dir: dir}
	for i := range 3 {
		m := &member{name: fmt.Sprint("m", i), data: filepath.Join(dir, fmt.Sprint("etcd", i))}
		for _, to := range []*string{&m.client, &m.peer} {
			port, err := acmetest.Port()
			if err != nil {
				return nil, err
			}
			*to = fmt.Sprintf("http://127.0.0.1:%d", port)
		}
		s.members = append(s.members, m)
	}
	for _, m := range s.members {
		if err := s.start(m); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, s.ready()
}

func (s *store) endpoints() []string {
	var list []string
	for _, m := range s.members {
		list = append(list, m.client)
	}
	return list
}

func (s *store) cluster() string {
	var list []string
	for _, m := range s.members {
		list = append(list, m.name+"="+m.peer)
	}
	return strings.Join(list, ",")
}

func (s *store) start(m *member) error {
	m.cmd = exec.Command("etcd", "--name", m.name, "--data-dir", m.data, "--listen-client-urls", m.client, "--advertise-client-urls", m.client,
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", s.cluster())
	return m.cmd.Start()
}

func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

func (s *store) stop() error {
	for _, m := range s.members {
		m.kill()
	}
	return nil
}

func (s *store) etcdctl(endpoints string, args ...string) ([]byte, error) {
	cmd := exec.Command("etcdctl", append([]string{"--endpoints", endpoints}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("etcdctl %q: %w\n%s", args, err, out)
	}
	return out, nil
}

// ready waits until all members answer.
func (s *store) ready() error {
	return await("the store is ready", func() bool {
		_, err := s.etcdctl(strings.Join(s.endpoints(), ","), "endpoint", "health")
		return err == nil
	})
}

// leader is the member that leads.
func (s *store) leader() (*member, error) {
	for _, m := range s.members {
		out, err := s.etcdctl(m.client, "endpoint", "status", "-w", "json")
		if err != nil {
			continue
		}
		var list []struct {
			Status struct {
				Header struct {
					ID uint64 `json:"member_id"`
				} `json:"header"`
				Leader uint64 `json:"leader"`
			}
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return nil, err
		}
		if len(list) == 1 && list[0].Status.Header.ID == list[0].Status.Leader {
			return m, nil
		}
	}
	return nil, errors.New("the store has no leader")
}

func (s *store) backup() (string, error) {
	file := filepath.Join(s.dir, "backup.db")
	_, err := s.etcdctl(s.members[0].client, "snapshot", "save", file)
	return file, err
}

// restore puts a backup in place of what all members have.
func (s *store) restore(file string) error {
	if err := s.stop(); err != nil {
		return err
	}
	for _, m := range s.members {
		if err := os.RemoveAll(m.data); err != nil {
			return err
		}
		if _, err := s.etcdctl(m.client, "snapshot", "restore", file, "--name", m.name, "--data-dir", m.data,
			"--initial-advertise-peer-urls", m.peer, "--initial-cluster", s.cluster()); err != nil {
			return err
		}
	}
	for _, m := range s.members {
		if err := s.start(m); err != nil {
			return err
		}
	}
	return s.ready()
}

func (s *store) open() (*etcd.Engine, error) { return etcd.Open(etcd.Config{Endpoints: s.endpoints()}) }

// limit is how long anything may take before the program gives up.
var limit = 15 * time.Minute

// await waits until done is true.
func await(what string, done func() bool) error {
	for begun := time.Now(); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > limit {
			return fmt.Errorf("never after %s: %s", limit, what)
		}
	}
	return nil
}
