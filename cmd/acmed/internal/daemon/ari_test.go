package daemon

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

const explanation = "https://ca.example.com/incident"

// flag lets the CA say that a certificate should have been renewed an hour ago, and why.
func flag(t *testing.T, ca *acmetest.CA, leaf *x509.Certificate) {
	t.Helper()
	now := time.Now().UTC()
	body := fmt.Sprintf(`{"suggestedWindow": {"start": %q, "end": %q}, "explanationURL": %q}`,
		now.Add(-2*time.Hour).Format(time.RFC3339), now.Add(-time.Hour).Format(time.RFC3339), explanation)
	if err := ca.SetRenewalInfoRaw(leaf, body); err != nil {
		t.Fatal(err)
	}
}

// replaced are the certificates that the received orders say they replace, the oldest first.
func replaced(t *testing.T, ca *acmetest.CA) (list []string) {
	t.Helper()
	for _, r := range ca.Received(acmetest.NewOrder) {
		var order struct{ Replaces string }
		if err := json.Unmarshal(r.Payload, &order); err != nil {
			t.Fatal(err)
		}
		list = append(list, order.Replaces)
	}
	return list
}

// ariName is the name of a certificate in RFC 9773 section 4.1. Serial numbers of the test CA are positive as they are.
func ariName(leaf *x509.Certificate) string {
	serial := leaf.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// TestRenewalInfo with a real CA: a flagged certificate is replaced, the new one flagged as well waits for the next day,
// and an answer that cannot be used is no reason to renew.
func TestRenewalInfo(t *testing.T) {
	ca := acmetest.Start(t)
	h := newHarness(t, ca)
	one := h.run(renewal.Options{})
	if one.Err != nil || !one.Obtained {
		t.Fatal(one.Err)
	}
	flag(t, ca, one.have.Current.Leaf)
	if got := h.run(renewal.Options{}); got.Obtained || ca.Requests(acmetest.RenewalInfo) != 0 {
		t.Fatal("the CA was asked before its time")
	}

	h.goTo(one.have.State.ARI.CheckAt)
	two := h.run(renewal.Options{})
	if two.Err != nil || !two.Obtained || two.Reason != plan.ReasonARI || !strings.Contains(two.Message, explanation) {
		t.Fatalf("flagged: %+v", two.Result)
	}
	if list := replaced(t, ca); len(list) != 2 || list[0] != "" || list[1] != ariName(one.have.Current.Leaf) {
		t.Errorf("the orders replace %q", list)
	}

	flag(t, ca, two.have.Current.Leaf)
	h.goTo(two.have.State.ARI.CheckAt)
	limited := h.run(renewal.Options{})
	if limited.Err != nil || limited.Obtained || limited.Reason != plan.ReasonIssueLimit || fmt.Sprint(limited.told) != "[limited]" {
		t.Errorf("flagged again: %+v, told %s", limited.Result, limited.told)
	}
	if s := limited.status; s.Reason != plan.ReasonIssueLimit || s.Renewal == nil || s.Renewal.URL != explanation || !strings.Contains(s.Message, explanation) {
		t.Errorf("status %+v, renewal %+v", s, s.Renewal)
	}
	if want := one.have.State.Issued[0].Add(day); !limited.Next.Equal(want) {
		t.Errorf("next %s, want %s", limited.Next, want)
	}
	if again := h.run(renewal.Options{}); again.Obtained || len(again.told) != 0 {
		t.Errorf("again: %+v, told %s", again.Result, again.told)
	}
	h.goTo(limited.Next)
	three := h.run(renewal.Options{})
	if three.Err != nil || !three.Obtained || fmt.Sprint(three.told) != fmt.Sprint([]notify.Kind{notify.Obtained}) {
		t.Errorf("the next day: %+v, told %s", three.Result, three.told)
	}

	ca.Use(acmetest.At(acmetest.Answer(500, nil, ""), acmetest.RenewalInfo))
	flag(t, ca, three.have.Current.Leaf)
	h.goTo(three.have.State.ARI.CheckAt)
	asked := ca.Requests(acmetest.RenewalInfo)
	broken := h.run(renewal.Options{})
	if broken.Err != nil || broken.Obtained || !broken.have.State.RenewAt.IsZero() || ca.Requests(acmetest.RenewalInfo) == asked {
		t.Errorf("status 500: %+v", broken.Result)
	}
	if wait := broken.have.State.ARI.CheckAt.Sub(h.clock()); wait > 6*time.Hour || wait < 6*time.Hour-time.Minute {
		t.Errorf("status 500: asked again in %s", wait)
	}
}
