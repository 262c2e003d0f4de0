package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The recipes of docs/guides/more-servers.md that Debian has and that start in a moment.

func TestRecipeRedis(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "redis.example.com", "6380", "6379")
	r.need("redis-server:redis-server")
	r.load("redis.yaml",
		"/etc/ssl/redis", r.path("tls"),
		"127.0.0.1:6380", r.addr["6380"],
		"tls-port 6380", fmt.Sprint("tls-port ", r.port(r.addr["6380"])),
		`"6379"`, fmt.Sprintf("%q", fmt.Sprint(r.port(r.addr["6379"]))),
	)
	r.give("data", "redis")
	r.file("redis.conf", fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsave \"\"\n%s", r.port(r.addr["6379"]), r.path("data"), r.settings))
	r.start(r.port(r.addr["6380"]), "/usr/bin/setpriv", "--reuid=redis", "--regid=redis", "--init-groups", "/usr/bin/redis-server", r.path("redis.conf"))
	r.prove("redis", []string{"-connect", r.addr["6380"]})
	r.owned("tls/redis.key", "root", "redis", 0o640)
	r.undo("redis")
}

func TestRecipeMosquitto(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "mqtt.example.com", "8883")
	r.need("mosquitto:mosquitto")
	r.load("mosquitto.yaml",
		"/etc/ssl/mosquitto", r.path("tls"),
		"127.0.0.1:8883", r.addr["8883"],
		"listener 8883", fmt.Sprintf("pid_file %s/mosquitto.pid\n#   listener %d 127.0.0.1", r.path("data"), r.port(r.addr["8883"])),
		"unit: mosquitto.service", fmt.Sprintf("reload: [/bin/sh, -c, 'kill -HUP $(cat %s/mosquitto.pid)']", r.path("data")),
	)
	r.give("data", "mosquitto")
	r.file("mosquitto.conf", r.settings)
	r.start(r.port(r.addr["8883"]), "/usr/bin/setpriv", "--reuid=mosquitto", "--regid=mosquitto", "--init-groups", "/usr/sbin/mosquitto", "-c", r.path("mosquitto.conf"))
	r.prove("mosquitto", []string{"-connect", r.addr["8883"]})
	r.owned("tls/server.key", "root", "mosquitto", 0o640)
	r.undo("mosquitto")
}

// TestMoreServersHasTheRecipes: the page shows these examples to the letter.
func TestMoreServersHasTheRecipes(t *testing.T) {
	page, err := os.ReadFile("../../docs/guides/more-servers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"redis.yaml", "mosquitto.yaml"} {
		text, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil || !strings.Contains(string(page), "```yaml\n"+string(text)+"```") {
			t.Errorf("the page does not show %s as it is (%v)", name, err)
		}
	}
}
