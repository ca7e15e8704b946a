# HOST PORT WAY USER PASSWORD CA FROM TO < message
require "net/smtp"
host, port, way, user, password, ca, from, to = ARGV
tls = way == "plain" ? false : (way == "implicit" ? true : false)
smtp = Net::SMTP.new(host, port.to_i, tls: tls, starttls: (%w[starttls login].include?(way) ? :always : false),
                     tls_verify: true, ssl_context_params: { ca_file: ca })
smtp.open_timeout = smtp.read_timeout = 15
login = way == "plain" ? {} : { user: user, secret: password, authtype: way == "login" ? :login : :plain }
smtp.start(helo: "ruby.example", **login) { |session| session.send_message(STDIN.binmode.read, from, to) }
