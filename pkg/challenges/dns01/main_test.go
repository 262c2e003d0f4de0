package dns01

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the other programs that the tests need: a process that gets killed, a hook, and a worker.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_HELPER") {
	case "killed":
		killedHelper()
	case "hook":
		if err := hook(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if mode := os.Getenv("FAKE_WORKER"); mode != "" {
		fakeWorker(mode)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks")) // Pebble has no end
}
