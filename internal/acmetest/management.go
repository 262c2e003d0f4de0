package acmetest

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// Management is the back door of Pebble, embedded or as a process: what the CA knows and tells no ACME client.
type Management struct {
	ask func(method, path string, body []byte) (status int, answer []byte, err error)

	mu            sync.Mutex
	roots         [][]byte
	intermediates [][]byte
}

// load asks for the certificates of all chains.
func (m *Management) load(chains int) error {
	var roots, intermediates [][]byte
	for i := range chains {
		root, err := m.get(fmt.Sprintf("/roots/%d", i))
		if err != nil {
			return err
		}
		intermediate, err := m.get(fmt.Sprintf("/intermediates/%d", i))
		if err != nil {
			return err
		}
		roots, intermediates = append(roots, root), append(intermediates, intermediate)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roots, m.intermediates = roots, intermediates
	return nil
}

func (m *Management) get(path string) ([]byte, error) {
	status, answer, err := m.ask(http.MethodGet, path, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, fmt.Errorf("management %s: %w", path, err)
	}
	return answer, nil
}

// IssuingRoots verifies the certificates the CA issues, through its main and all alternate roots.
func (m *Management) IssuingRoots() *x509.CertPool {
	m.mu.Lock()
	defer m.mu.Unlock()
	pool := x509.NewCertPool()
	for _, root := range m.roots {
		pool.AppendCertsFromPEM(root)
	}
	return pool
}

// IssuingRootPEM is the issuing root of chain i: 0 is the main one, then the alternates.
func (m *Management) IssuingRootPEM(i int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roots[i]
}

// IntermediatePEM is the certificate of chain i that signs leaves.
func (m *Management) IntermediatePEM(i int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.intermediates[i]
}

// SetRenewalInfo sets the window that the CA suggests for the renewal of leaf (RFC 9773 section 4.2).
func (m *Management) SetRenewalInfo(leaf *x509.Certificate, start, end time.Time) error {
	type window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	}
	body, err := json.Marshal(map[string]window{"suggestedWindow": {start, end}})
	if err != nil {
		return fmt.Errorf("renewal window: %w", err)
	}
	return m.SetRenewalInfoRaw(leaf, string(body))
}

// SetRenewalInfoRaw sets the literal body of the CA's answer, which need not be JSON; "" goes back to the CA's own.
func (m *Management) SetRenewalInfoRaw(leaf *x509.Certificate, body string) error {
	request, err := json.Marshal(map[string]string{"certificate": string(encode(leaf)), "ariResponse": body})
	if err != nil {
		return fmt.Errorf("renewal information: %w", err)
	}
	status, answer, err := m.ask(http.MethodPost, "/set-renewal-info/", request)
	if err != nil {
		return fmt.Errorf("set renewal information: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("set renewal information: status %d: %s", status, answer)
	}
	return nil
}

// Revoked tells whether the certificate with this serial number was revoked, and for which reason (RFC 5280 section
// 5.3.1). An unknown serial number is an error.
func (m *Management) Revoked(serial *big.Int) (revoked bool, reason int, err error) {
	answer, err := m.get("/cert-status-by-serial/" + serial.Text(16))
	if err != nil {
		return false, 0, err
	}
	var status struct {
		Status string
		Reason int
	}
	if err := json.Unmarshal(answer, &status); err != nil {
		return false, 0, fmt.Errorf("status of certificate %x: %w", serial, err)
	}
	return status.Status == "Revoked", status.Reason, nil
}
