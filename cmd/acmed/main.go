// Command acmed obtains TLS certificates, installs them into servers, proves that they are served, and renews them. It is
// the daemon and the command line in one.
//
// The package parses and prints, nothing else: every command turns its flags into one request to a control.Backend, the
// running daemon or the same engine in this process, and the answer into text or JSON.
//
// # Exit codes
//
//	0   everything is as it should be
//	1   the command failed
//	2   wrong usage, or a configuration with problems
//	3   some certificates failed or need attention
//	4   no permission, the state directory is locked, or the daemon is stopping
//	75  the CA takes no more requests for now; the time is on standard error
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

const defaultConfig = "/etc/acmed/acmed.yaml"

// run executes one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{out: stdout, err: stderr}
	root := newRoot(app)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // a core dump would hold private keys
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	err = app.beginning(err)
	if err != nil && err.Error() != "" {
		printError(stderr, err)
	}
	return exitCode(err)
}

// app is what every command shares.
type app struct {
	out, err io.Writer
	config   string // path of acmed.yaml
}

// newRoot is the command table.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "acmed",
		Short:         "Obtain, install, verify and renew TLS certificates",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVarP(&a.config, "config", "c", envOr("ACMED_CONFIG", defaultConfig), "configuration `file`")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(
		newEnable(a), newDisable(a), newImport(a), newDelete(a),
		newStatus(a), newLog(a), newRenew(a), newInstall(a), newUninstall(a), newDoctor(a), newCheck(a),
		newHistory(a), newActivate(a), newRollback(a), newRevoke(a),
		newProbe(a), newTrust(a), newChain(a),
		newRun(a), newReload(a), newAccount(a), newFleet(a), newNotify(a), newDNS(a), newEvents(a), newSnippet(a), newInstalld(a),
		newExplain(a), newReport(a), newVersion(a), newManualDNS(),
	)
	a.arrange(root)
	return root
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
