// kube-apiserver and kube-controller-manager as one executable, which is the one it is called as:
// most of their packages are the same, and so they are linked once.
//
// JOB_POD_FAILURE_BACK_OFF, as `1s`, is how long the latter waits before a Job's failed pod is followed
// by another one, twice as long each time; as released it is ten seconds, and cannot be told.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "time/tzdata" // for the time zones of a CronJob

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/pkg/controller/job"
)

func main() {
	commands := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
	}
	name := filepath.Base(os.Args[0])
	command, known := commands[name]
	if !known {
		fmt.Fprintf(os.Stderr, "called as %s; to be called as kube-apiserver or kube-controller-manager\n", name)
		os.Exit(2)
	}
	if text := os.Getenv("JOB_POD_FAILURE_BACK_OFF"); text != "" {
		duration, err := time.ParseDuration(text)
		if err != nil {
			fmt.Fprintf(os.Stderr, "JOB_POD_FAILURE_BACK_OFF: %v\n", err)
			os.Exit(2)
		}
		job.DefaultJobPodFailureBackOff = duration
	}
	os.Exit(cli.Run(command()))
}
