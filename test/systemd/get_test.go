package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// section is what stands below a heading of docs/get.md.
func section(t *testing.T, text, heading string) []step {
	t.Helper()
	_, after, ok := strings.Cut(text, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/get.md has no section %q", heading)
	}
	part, _, _ := strings.Cut(after, "\n## ")
	steps, err := parse(part)
	if err != nil || len(steps) == 0 {
		t.Fatalf("docs/get.md: %s: %d steps, %v", heading, len(steps), err)
	}
	return steps
}

// TestGet goes from each kind of package to HTTPS, by the lines of docs/get.md alone. The programs that install the packages of
// Red Hat and Arch are those that Debian has.
func TestGet(t *testing.T) {
	data, err := os.ReadFile("../../docs/get.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("_amd64", "_"+runtime.GOARCH, "-amd64", "-"+runtime.GOARCH).Replace(string(data))
	// Arch's shell is bash, and Debian's rpm asks to be called with this option.
	const rpm = "printf '#!/bin/sh\\nexec /usr/bin/rpm --force-debian \"$@\"\\n' >/usr/local/sbin/rpm; chmod 755 /usr/local/sbin/rpm\n"
	for _, way := range []struct{ name, heading, pattern, before, remove string }{
		{"deb", "Debian and Ubuntu", "acmed_*.deb", "", "apt-get purge -y acmed"},
		{"rpm", "Red Hat, Fedora, SUSE", "acmed-*.rpm", rpm, "rpm -e acmed"},
		{"arch", "Arch Linux", "acmed-*.pkg.tar.zst", "ln -sf bash /bin/sh\n", "pacman -R --noconfirm acmed"},
		{"tar", "Any Linux", "acmed-*-linux-" + runtime.GOARCH + ".tar.gz", "", "systemctl disable --now acmed-single; cd /root; tar -tzf acmed-*.tar.gz | (cd / && xargs rm)"},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			m := boot(t)
			m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
			m.connect("")
			m.shell(onNginx + way.before)
			file := built(t, way.pattern)
			m.copy(file, "/root/"+filepath.Base(file), 0o644)
			m.follow("docs/get.md", section(t, text, way.heading))
			m.follow("docs/get.md", section(t, text, "To HTTPS"))
			m.shell("PATH=/usr/local/sbin:$PATH; " + way.remove)
			if out, err := m.try("bash", "-c", "ls /usr/bin/acmed /usr/lib/systemd/system/acmed.service; systemctl is-active acmed-single"); err == nil || strings.Contains(out, "\nactive") {
				t.Errorf("after %q there is still %s", way.remove, out)
			}
			m.do("test", "-d", "/var/lib/acmed/certs/example.com")
		})
	}
}

// built is the newest file of a kind in dist.
func built(t *testing.T, pattern string) string {
	t.Helper()
	list, err := filepath.Glob("../../dist/" + pattern)
	if err != nil || len(list) == 0 {
		t.Fatal("there is no package; run make packages", err)
	}
	return slices.MaxFunc(list, func(a, b string) int { return age(t, a).Compare(age(t, b)) })
}

// What the packages of one system have elsewhere than the archive has it.
var (
	places = strings.NewReplacer("zsh/site-functions/", "zsh/vendor-completions/", "licenses/acmed/LICENSE", "doc/acmed/LICENSE", "doc/acmed/copyright", "doc/acmed/LICENSE")
	ours   = regexp.MustCompile(`(?m)^(?:\./|/)?((?:usr|etc)/.*[^/\n])$`)
)

// TestContents compares what is in every package of dist with what is in the archive of the same architecture: the same files,
// of the same size, apart from units and the script that OpenRC has in their place.
func TestContents(t *testing.T) {
	if os.Getenv("ACMED_SYSTEMD") == "" {
		t.Skip("make test-systemd runs this")
	}
	archives, err := filepath.Glob("../../dist/acmed-*-linux-*.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatal("there is no archive; run make packages", err)
	}
	names := map[string][]string{ // of an architecture, in the packages
		"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "armv7": {"armhf", "armv7hl", "armv7", "armv7h"}, "riscv64": {"riscv64"},
	}
	for _, archive := range archives {
		arch := strings.TrimSuffix(archive[strings.LastIndex(archive, "-")+1:], ".tar.gz")
		want := contents(t, archive)
		for _, file := range []string{"usr/bin/acmed", "usr/lib/systemd/system/acmed.service", "usr/share/man/man1/acmed.1.gz", "usr/share/doc/acmed/LICENSE", "usr/share/doc/acmed/docs/get.md"} {
			if !slices.Contains(want, file) {
				t.Errorf("%s has no %s", archive, file)
			}
		}
		for _, kind := range []string{".deb", ".rpm", ".pkg.tar.zst", ".apk"} {
			var list []string
			for _, name := range names[arch] {
				found, _ := filepath.Glob("../../dist/acmed?*?" + name + kind)
				list = append(list, found...)
			}
			if len(list) != 1 {
				t.Errorf("packages %s for %s: %v", kind, arch, list)
				continue
			}
			want := want
			if kind == ".apk" {
				want = slices.DeleteFunc(slices.Clone(want), func(file string) bool { return strings.HasPrefix(file, "usr/lib/") })
				want = slices.Insert(want, 0, "etc/init.d/acmed")
			}
			if diff := cmp.Diff(want, contents(t, list[0])); diff != "" {
				t.Errorf("%s has other files than the archive (-archive +package):\n%s", list[0], diff)
			}
		}
	}
	run(t, "sh", "-c", "cd ../../dist && sha256sum --check --strict SHA256SUMS")
}

// contents lists the files of a package, where the archive has them.
func contents(t *testing.T, file string) []string {
	t.Helper()
	var out string
	switch filepath.Ext(file) {
	case ".deb":
		out = run(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -t`, file)
	case ".rpm":
		out = run(t, "rpm", "--query", "--package", "--queryformat", `[%{FILEMODES:perms} %{FILENAMES}\n]`, file)
		out = regexp.MustCompile(`(?m)^(d.*|\S+ )`).ReplaceAllString(out, "")
	default:
		out = run(t, "bsdtar", "-tf", file)
	}
	var list []string
	for _, match := range ours.FindAllStringSubmatch(out, -1) {
		list = append(list, places.Replace(match[1]))
	}
	slices.Sort(list)
	return list
}

// TestImage builds the image and starts what the example for Compose starts, in the same way: acmed from the root of the image, as
// the user of the image with its command, and nginx with the files that its container gets.
func TestImage(t *testing.T) {
	t.Parallel()
	m := boot(t)
	if err := os.CopyFS(filepath.Join(m.root, "image"), os.DirFS(image(t))); err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Volumes []string
		}
	}
	data, err := os.ReadFile("../../deploy/container/compose.yaml")
	if err == nil {
		err = yaml.Unmarshal(data, &compose)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.connect("")
	m.shell("rm -f /etc/nginx/sites-enabled/*; echo 127.0.0.1 acmed nginx >>/etc/hosts; cp /etc/hosts /etc/resolv.conf /image/etc/; cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/\n" +
		"chown -R 65532:65532 /image/var/lib/acmed /image/run/acmed /image/tls; ln -s /image/tls /tls")
	for service, root := range map[string]string{"acmed": "/image", "nginx": ""} {
		mounts := 0
		for _, volume := range compose.Services[service].Volumes {
			from, to, _ := strings.Cut(volume, ":")
			if to, _, _ = strings.Cut(to, ":"); strings.HasPrefix(from, "./") {
				m.copy("../../deploy/container/"+from, root+to, 0o755)
				m.do("chmod", "go-w", root+to)
				mounts++
			}
		}
		if mounts == 0 {
			t.Errorf("compose.yaml mounts nothing into %s", service)
		}
	}
	m.do("systemd-run", "--quiet", "--unit=acmed-image", "chroot", "--userspec=65532:65532", "/image", "/usr/bin/acmed", "run")
	m.do("systemctl", "--quiet", "start", "nginx")
	m.shell("sh /docker-entrypoint.d/50-reload.sh >/dev/null 2>&1") // it stays behind, as in the container
	m.until("nginx serves the certificate", func() error {
		_, err := m.try("curl", "-sf", "https://www.example.com/")
		return err
	})
	m.do("chroot", "--userspec=65532:65532", "/image", "/usr/bin/acmed", "status", "--live")
	m.until("it is verified", func() error {
		_, err := m.try("chroot", "--userspec=65532:65532", "/image", "/usr/bin/acmed", "status")
		return err
	})
}

// image builds the image without a network and returns its root.
func image(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	buildah := func(argv ...string) string {
		store := []string{"buildah", "--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
		return strings.TrimSpace(run(t, append(store, argv...)...))
	}
	buildah("build", "--quiet", "--format", "docker", "--isolation", "chroot", "--build-arg", "TARGETARCH="+runtime.GOARCH, "--tag", "acmed", "--file", "../../deploy/container/Containerfile", "../../dist/image")
	out := buildah("inspect", "--type", "image", "--format", "{{.Docker.Config.User}} {{.Docker.Config.Entrypoint}} {{.Docker.Config.Cmd}} {{.Docker.Config.Healthcheck.Test}}", "acmed")
	if want := "65532:65532 [/usr/bin/acmed] [run] [CMD /usr/bin/acmed status --live]"; out != want {
		t.Errorf("the image is %q, want %q", out, want)
	}
	container := buildah("from", "--quiet", "--pull-never", "acmed")
	root := buildah("mount", container)
	t.Cleanup(func() {
		cmd := exec.Command("buildah", "--root", dir+"/root", "--runroot", dir+"/run", "--storage-driver", "vfs", "umount", container)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Error(fmt.Errorf("%w: %s", err, out))
		}
	})
	return root
}
