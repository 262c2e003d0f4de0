package issuer_test

import (
	"errors"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
)

// TestEvilCA is everything that a broken or hostile CA may do to us. Each row says what became of the order, which requests
// were made and what was left behind, and each is watched for memory.
func TestEvilCA(t *testing.T) {
	for _, row := range []struct {
		what string
		run  func(t *testing.T)
	}{
		// broken: it is asked again within bounds, or later, and nothing is lost
		{"it refuses half, nearly all or all nonces", badNonces},
		{"any endpoint fails, with any kind of failure", failingEndpoints},
		{"any endpoint fails once", passingFailures},
		{"503 with Retry-After", maintenance},
		{"429 with Retry-After as seconds, date, nothing, nonsense, 10 years", retryAfterHeaders},
		{"429 for longer than the certificate lives", retryAfterNearTheEnd},
		{"it is gone and comes back", caDown},
		{"its name does not resolve: SERVFAIL, no answer", nameLost},
		{"it is slow: latency and a kilobyte a second", slow},
		{"it does not answer one of two orders", slowForOne},
		{"a byte a second", slowBody},
		{"the stream is cut within the certificate", resumes(acmetest.At(acmetest.Cut(100), acmetest.Certificate), 1)},
		{"the connection is reset after finalize arrived", finalizeWithALostAnswer},
		{"the order stays in processing", resumes(acmetest.At(acmetest.OrderStatus("processing"), acmetest.Order, acmetest.Finalize), 1)},
		{"the order is invalid after valid authorizations", invalidOrder},
		{"the authorizations stay pending", pendingForEver},
		{"the order stays pending although a name failed", orderStaysPending},
		{"the directory's TLS certificate has another name, is expired, has an unknown root", directoryTLS},

		// hostile: what it sends is bounded, and refused when an honest CA would not send it
		{"tokens that are paths, have a NUL, are padded, empty, short or huge", malformedTokens},
		{"bodies and headers without end, gzip bombs, errors without end, deep JSON", hostileBodies},
		{"redirects of every status to strangers, plain HTTP, the cloud's metadata, files", redirects},
		{"redirects of the directory within the CA", directoryRedirects},
		{"directory URLs on another host, scheme, port, with user, zone, 10 kB long", directoryURLs},
		{"a second host, configured and not", directoryHosts},
		{"a public CA at a private address", privateAddresses},
		{"a certificate for another key", forged(wrongKeys)},
		{"a certificate with a name missing, too many, or only in the subject", forged(wrongNames)},
		{"a certificate that is expired, not yet valid, for 10 years, for 5 minutes", forged(wrongLifetimes)},
		{"a chain of 1,000, doubled, in the wrong order, foreign, with a key, with garbage", forged(wrongChains)},
		{"a chain of 5 MB", hugeChain},
		{"a sound chain with its root", chainWithRoot},
		{"a certificate with a weak key or signature, of a CA, not for servers, with unknown extensions", forged(wrongKinds)},
		{"12 and 10,000 alternate chains", manyAlternates},
		{"error texts with escapes, newlines, bidirectional marks", problems},
		{"URLs for people that are scripts, plain HTTP, or have escapes", urlsForPeople},
		{"nonces with CR, LF, NUL, of other alphabets, empty, of a megabyte", malformedNonces},
		{"authorizations for other names, too many, none, elsewhere", foreignAuthorizations},
		{"challenges of unknown types only", unknownChallenges},
		{"objects of many elements", manyElements},
		{"an HMAC key for an account binding that is empty, short, not base64url", malformedHMAC},
		{"renewal windows that are inverted, empty, of the year 9999, errors, endless", badRenewalInfo},
	} {
		t.Run(row.what, func(t *testing.T) {
			watchMemory(t)
			row.run(t)
		})
	}
}

// kind is the type of an error as the caller sees it.
func kind(err error) string {
	var limit *certs.RateLimitError
	var unavailable *certs.UnavailableError
	var permanent *certs.PermanentError
	var vet *certs.VetError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &vet):
		return "vet"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &permanent):
		return "permanent"
	case len(certs.Validations(err)) > 0:
		return "validation"
	case errors.As(err, &unavailable):
		return "unavailable"
	}
	return "plain"
}

func checkText(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > 2600 {
		t.Errorf("an error text of %d bytes", len(text))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("control characters in %q", text)
	}
}

// memoryLimit is by how much the heap may grow whatever the CA sends. The CA is in the same process and counts as well.
const memoryLimit = 64 << 20

// watchMemory fails the test when the heap grows by more than memoryLimit at any moment until the test and its subtests end.
func watchMemory(t *testing.T) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	heap := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before, stop, peak := heap(), make(chan struct{}), make(chan uint64)
	go func() {
		most := before
		for {
			most = max(most, heap())
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		grown := <-peak - before
		t.Logf("the heap grew by %.1f MiB at most", float64(grown)/(1<<20))
		if grown > memoryLimit {
			t.Error("that is too much")
		}
	})
}

// bounded runs f and checks what it cost in all: no more than memoryLimit is allocated, garbage included, and no more than
// a quarter of it stays. It must not run beside other tests.
func bounded(t *testing.T, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := acmetest.Spent(t)
	f()
	if spent := acmetest.Spent(t) - start; spent > 10*time.Second {
		t.Errorf("took %s of processor time", spent)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > memoryLimit {
		t.Errorf("allocated %d MiB", used>>20)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > memoryLimit/4 {
		t.Errorf("%d MiB stay on the heap", used>>20)
	}
}
