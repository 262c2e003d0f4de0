package dns01

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the other programs that the tests need: a process that gets killed, and a worker.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_HELPER") == "killed" {
		killedHelper()
	}
	if mode := os.Getenv("FAKE_WORKER"); mode != "" {
		fakeWorker(mode)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks")) // Pebble has no end
}
