# Workers on Nomad: a batch job, dispatched once per worker, which ends when its worker goes home.
# `START='nomad job dispatch tinytown-worker' deploy/poll.sh` starts them as they are wanted.
#
# Trap: do not scale a service job instead (the autoscaler with `pass-through` on `desired` works):
# Nomad stops any allocation, busy or not. Trap: batch restarts only what failed, so exit 0 rests.
job "tinytown-worker" {
  type = "batch"

  parameterized {
    payload = "forbidden"
  }

  group "worker" {
    # A crash loses a lease, and the signal asks for another worker: no second one from here.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    ephemeral_disk {
      size = 10000
    }

    task "worker" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "40s"

      config {
        image           = "ghcr.io/OWNER/tinytown-worker-claude:0.1.0"
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]

        mount {
          type   = "tmpfs"
          target = "/tmp"
        }

        mount {
          type   = "tmpfs"
          target = "/home/town"
          tmpfs_options {
            mode = 1023 # 1777 in octal
          }
        }
      }

      env {
        TINYTOWN_WORK_DIR      = "/local/work" # the same path on every client, on its disk
        TINYTOWN_AGENT         = "claude"
        TINYTOWN_IDLE_SECONDS  = "60"
        TINYTOWN_DRAIN_SECONDS = "25"
        TINYTOWN_LOG           = "json"
      }

      template {
        destination = "secrets/worker.env"
        env         = true
        data        = <<-END
          {{ with nomadVar "nomad/jobs/tinytown-worker" }}{{ range .Tuples }}
          {{ .K }}={{ .V }}
          {{ end }}{{ end }}
        END
      }

      resources {
        cpu    = 500
        memory = 2048
      }
    }
  }
}
