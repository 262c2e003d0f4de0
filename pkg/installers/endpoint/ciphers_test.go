package endpoint_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// TestUnfit compares with OpenSSL: a list that is called unfit has no suite of the family, and one that it has none of is
// called unfit where it says so plainly.
func TestUnfit(t *testing.T) {
	const rsa, ecdsa = endpoint.RSA, endpoint.ECDSA
	for _, tt := range []struct {
		list  string
		key   endpoint.Family
		unfit bool
	}{
		{"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:!aNULL", ecdsa, true},
		{"ECDHE-RSA-AES128-GCM-SHA256 DHE-RSA-AES256-GCM-SHA384", ecdsa, true},
		{"AES128-SHA,AES256-GCM-SHA384", ecdsa, true},
		{"HIGH:!aNULL:!ECDSA", ecdsa, true},
		{"HIGH:!aECDSA:!MD5", ecdsa, true},
		{"ECDHE+aRSA+AESGCM:DHE+AESGCM:RSA+AES:@STRENGTH", ecdsa, true},
		{"kRSA", ecdsa, true},
		{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ecdsa, true},
		{"ECDHE-ECDSA-AES128-GCM-SHA256", rsa, true},
		{"ECDHE+aECDSA", rsa, true},
		{"HIGH:!aNULL:!MD5", ecdsa, false},
		{"HIGH:!aNULL:!MD5", rsa, false},
		{"EECDH+AESGCM:EDH+AESGCM", ecdsa, false},
		{"DEFAULT", ecdsa, false},
		{"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", ecdsa, false},
		{"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", rsa, false},
		{"ALL:!kRSA", rsa, false},
		{"", ecdsa, false},
		{"ECDHE-RSA-AES128-GCM-SHA256", endpoint.AnyFamily, false},
	} {
		if got := endpoint.Unfit(tt.list, tt.key); got != tt.unfit {
			t.Errorf("Unfit(%q, %s) = %v", tt.list, tt.key, got)
		}
		if tt.unfit && !strings.HasPrefix(tt.list, "TLS_") {
			checkUnfit(t, tt.list, tt.key)
		}
	}
}

func checkUnfit(t *testing.T, list string, key endpoint.Family) {
	t.Helper()
	out, err := exec.Command("openssl", "ciphers", "-v", list).Output()
	if err != nil {
		t.Fatalf("openssl ciphers %s: %v", list, err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "TLSv1.3") && strings.Contains(line, "Au="+string(key)) {
			t.Errorf("OpenSSL has %q in %q", line, list)
		}
	}
}
