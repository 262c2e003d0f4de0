// Package serve is the worker's side of the protocol between acmed and acmed-dns.
//
// It owns the loop that reads requests and writes answers, one at a time and in order, and the records that were set and
// not yet removed. When the input ends while there are such records, acmed has died: they are removed before the worker
// ends, because only this process knows what the provider remembers about them.
//
// It does not check credentials and does not wait for propagation.
package serve

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-acme/lego/v4/challenge"
	lego "github.com/go-acme/lego/v4/challenge/dns01"

	"github.com/acmed/acmed/pkg/challenges/dns01"
)

// Server serves one credential.
type Server struct {
	Open    func(provider string) (challenge.Provider, error) // makes the provider from the environment
	Version string

	provider challenge.Provider
	pin      *pinner
	set      []dns01.Record
}

// orphanTimeout bounds the removal of records after acmed has died.
const orphanTimeout = 2 * time.Minute

// Run answers requests until the input ends.
func (s *Server) Run(in io.Reader, out io.Writer) error {
	defer s.close()
	lines := bufio.NewReaderSize(in, dns01.MaxLine)
	enc := json.NewEncoder(out)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return s.orphans()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read a request: %w", err), s.orphans())
		}
		var req dns01.Request
		if err := json.Unmarshal(line, &req); err != nil {
			return errors.Join(errors.New("a request is not JSON"), s.orphans())
		}
		resp := dns01.Response{ID: req.ID}
		if req.Op == dns01.OpHello {
			resp.Protocol, resp.Version = dns01.ProtocolVersion, s.Version
		}
		if err := s.answer(req); err != nil {
			resp.Error = err.Error()
		}
		if err := enc.Encode(resp); err != nil {
			return errors.Join(fmt.Errorf("write an answer: %w", err), s.orphans())
		}
	}
}

func (s *Server) answer(req dns01.Request) error {
	switch {
	case req.Op == dns01.OpHello && req.Hello != nil && s.provider == nil:
		return s.hello(*req.Hello)
	case req.Op == dns01.OpPresent && req.Record != nil && s.provider != nil:
		return s.present(*req.Record)
	case req.Op == dns01.OpCleanUp && req.Record != nil && s.provider != nil:
		return s.cleanUp(*req.Record)
	}
	return fmt.Errorf("unexpected request %q", req.Op)
}

func (s *Server) hello(h dns01.Hello) error {
	if h.Protocol != dns01.ProtocolVersion {
		return fmt.Errorf("acmed speaks protocol %d, this worker %d; install both from one release", h.Protocol, dns01.ProtocolVersion)
	}
	if h.Provider == "manual" {
		return errors.New("the provider manual asks a person and cannot run unattended")
	}
	pin, err := newPinner(h.Resolvers)
	if err != nil {
		return err
	}
	s.pin = pin
	if err := lego.AddRecursiveNameservers([]string{pin.addr})(nil); err != nil {
		return err
	}
	provider, err := s.Open(h.Provider)
	if err != nil {
		return err
	}
	s.provider = provider
	return nil
}

func (s *Server) present(r dns01.Record) error {
	s.pin.set(r)
	s.forget(r)
	s.set = append(s.set, r) // also when it fails: the provider may have made the record all the same
	return s.provider.Present(r.Domain, r.Token, r.KeyAuth)
}

func (s *Server) cleanUp(r dns01.Record) error {
	s.pin.set(r)
	s.forget(r)
	return s.provider.CleanUp(r.Domain, r.Token, r.KeyAuth)
}

func (s *Server) forget(r dns01.Record) {
	s.set = slices.DeleteFunc(s.set, func(o dns01.Record) bool { return o == r })
}

// orphans removes what acmed did not ask to be removed.
func (s *Server) orphans() error {
	if len(s.set) == 0 {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		var errs []error
		for _, r := range slices.Clone(s.set) {
			if err := s.cleanUp(r); err != nil {
				errs = append(errs, fmt.Errorf("remove the TXT record at %s: %w", r.FQDN, err))
			}
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(orphanTimeout):
		return fmt.Errorf("the provider did not remove all records within %s", orphanTimeout)
	}
}

func (s *Server) close() {
	if s.pin != nil {
		s.pin.close()
	}
}
