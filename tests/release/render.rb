# Renders one job template as BOSH does: render.rb TEMPLATE < {"caller": ..., "spec": {name: default}, "given": {...}}
# `caller` is create-env or director. They differ in JSON.dump of a single value, in links, and in nothing else that
# a job of this release could notice.
require "erb"
require "json"

class Job
  def initialize(spec, given)
    @properties = {}
    spec.each do |name, default|
      value = dig(given, name)
      *sections, key = name.split(".")
      sections.inject(@properties) { |hash, section| hash[section] ||= {} }[key] = value.nil? ? default : value
    end
  end

  def p(names, *default)
    Array(names).each do |name|
      value = dig(@properties, name)
      return value unless value.nil?
    end
    raise "Can't find property #{Array(names).join(" or ")}" if default.empty?
    default.first
  end

  def if_p(*names)
    values = names.map { |name| dig(@properties, name) }
    return Otherwise.new(self, true) if values.any?(&:nil?)
    yield(*values)
    Otherwise.new(self, false)
  end

  def binding_of_job = binding

  private

  def dig(tree, name)
    name.split(".").inject(tree) { |node, key| node.nil? ? nil : node[key] }
  end

  Otherwise = Struct.new(:job, :wanted) do
    def else = wanted && yield
    def else_if_p(*names, &block) = wanted ? job.if_p(*names, &block) : self
  end
end

request = JSON.parse($stdin.read)
if request["caller"] == "create-env"
  class << JSON
    alias_method :dump_tree, :dump
    def dump(value, *rest) = value.is_a?(String) || value.is_a?(Numeric) ? value.inspect : dump_tree(value, *rest)
  end
end

erb = ERB.new(File.read(ARGV[0]), trim_mode: "-")
erb.filename = ARGV[0]
print erb.result(Job.new(request["spec"], request["given"]).binding_of_job)
