package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// group is the commands for one task, in the order of the help, with examples by the path below acmed.
type group struct{ id, title, commands string }

func groups() []group {
	return []group{
		{"setup", "Set up certificates:", "enable disable import delete"},
		{"daily", "See and renew:", "status log renew install uninstall doctor check"},
		{"versions", "Versions and revocation:", "history activate rollback revoke"},
		{"clients", "Clients and endpoints:", "probe trust chain"},
		{"daemon", "The daemon and its surroundings:", "run reload events account dns fleet notify snippet installd"},
		{"help", "Help:", "explain report completion help version"},
	}
}

// examples are those of commands that have none of their own.
func examples() map[string]string {
	return map[string]string{
		"":          "acmed enable -d example.com\nacmed status",
		"run":       "acmed run\nacmed run --once        from a timer, instead of a daemon",
		"renew":     "acmed renew             what is due\nacmed renew www --force\nacmed renew --dry-run\nacmed renew --dry-run --staging",
		"install":   "acmed install www",
		"uninstall": "acmed uninstall www",
		"status":    "acmed status\nacmed status www\nacmed status --failing\nacmed status --expiring 14d -o json",
		"check":     "acmed check",
		"reload":    "acmed reload",
		"account":   "acmed account show letsencrypt", "account show": "acmed account show letsencrypt",
		"account update": "acmed account update letsencrypt ops@example.com", "account rollover": "acmed account rollover letsencrypt",
		"account recover": "acmed account recover letsencrypt /root/account.pem", "account deactivate": "acmed account deactivate letsencrypt",
		"revoke":   "acmed revoke www --reason keyCompromise\nacmed revoke www --version 20261120T235600Z-1a2b3c4d --reason superseded",
		"activate": "acmed activate www", "rollback": "acmed rollback www\nacmed rollback www --to 20261120T235600Z-1a2b3c4d",
		"log":     "acmed log www\nacmed log www --since 7d",
		"history": "acmed history www", "chain": "acmed chain www >issuers.pem",
		"trust":  "acmed trust\nacmed trust www\nacmed trust example.com:443 --in 30d",
		"probe":  "acmed probe example.com\nacmed probe mail.example.com:587 --starttls smtp --days 14",
		"doctor": "acmed doctor\nacmed doctor www", "explain": "acmed explain\nacmed explain port-closed",
		"dns": "acmed dns list", "dns list": "acmed dns list", "dns describe": "acmed dns describe cloudflare",
		"dns try": "acmed dns try cloudflare -d www.example.com\nacmed dns try route53 -d www.example.com --env-file /etc/acmed/secrets/route53.env",
		"events":  "acmed events\nacmed events --since 2h",
		"fleet":   "acmed fleet status", "fleet init": "acmed fleet init\nacmed fleet init --again", "fleet status": "acmed fleet status",
		"fleet import": "acmed fleet import --dry-run\nacmed fleet import", "fleet forget": "acmed fleet forget shop",
		"notify": "acmed notify test", "notify test": "acmed notify test\nacmed notify test ops",
		"snippet":  "acmed snippet nginx\nacmed snippet haproxy --mode tls-alpn\nacmed snippet apache --stateless --issuer letsencrypt",
		"installd": "acmed installd --check", "version": "acmed version", "report": "acmed report",
		"completion": "acmed completion bash >/etc/bash_completion.d/acmed",
	}
}

// arrange gives every command its task, an example, checks of its arguments and completions.
func (a *app) arrange(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(strings.Fields(g.commands), cmd.Name()) {
				cmd.GroupID = g.id
			}
		}
	}
	root.SetHelpCommandGroupID("help")
	root.SetCompletionCommandGroupID("help")
	a.arrangeAll(root, "")
}

func (a *app) arrangeAll(cmd *cobra.Command, path string) {
	if lines := examples()[path]; cmd.Example == "" && lines != "" {
		cmd.Example = "  " + strings.ReplaceAll(lines, "\n", "\n  ")
	}
	if path != "help" && !strings.HasPrefix(path, "completion") {
		cmd.Args = usageArgs(cmd.Args)
	}
	a.complete(cmd)
	for _, sub := range cmd.Commands() {
		a.arrangeAll(sub, strings.TrimSpace(path+" "+sub.Name()))
	}
}

// usageArgs makes wrong arguments an error of usage that names them.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		return &exitError{exitUsage, argumentError(cmd, args, err)}
	}
}

// argumentError names the argument that is missing or too much, or the command that was meant.
func argumentError(cmd *cobra.Command, args []string, err error) error {
	if cmd.HasAvailableSubCommands() && len(args) > 0 {
		text := fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+args[0])
		if near := suggestions(cmd, args[0]); len(near) > 0 {
			return fmt.Errorf("%s; did you mean %q?", text, cmd.CommandPath()+" "+near[0])
		}
		return fmt.Errorf("%s; '%s --help' lists the commands", text, cmd.CommandPath())
	}
	wanted := strings.Fields(cmd.Use)[1:]
	most := len(wanted)
	if strings.Contains(cmd.Use, "...") {
		most = len(args)
	}
	switch {
	case len(args) > most && most == 0:
		return fmt.Errorf("unexpected argument %q: %s takes none", args[0], cmd.CommandPath())
	case len(args) > most:
		return fmt.Errorf("unexpected argument %q; usage: %s", args[most], cmd.UseLine())
	case len(args) < len(wanted):
		return fmt.Errorf("missing argument %s; usage: %s", strings.Trim(wanted[len(args)], "[]."), cmd.UseLine())
	case len(cmd.ValidArgs) > 0:
		return fmt.Errorf("unknown argument %q; use one of: %s", args[0], strings.Join(cmd.ValidArgs, ", "))
	}
	return errors.New(err.Error())
}

// suggestions are the commands that a mistyped name may mean, the nearest first.
func suggestions(cmd *cobra.Command, typed string) []string {
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	return cmd.SuggestionsFor(typed)
}
