"""The notifier: watch the event stream and push what matters to phones and programs."""
