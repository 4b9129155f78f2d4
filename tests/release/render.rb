# Render a job template as BOSH does.
#
#   render.rb TEMPLATE < {"caller": "create-env", "spec": {name: default}, "properties": {...}}
#
# The caller is create-env or director. For the templates of this release, they differ in JSON.dump of a scalar only.
require "erb"
require "json"

class Job
  def initialize(spec, manifest)
    @properties = {}
    spec.each do |name, default|
      value = dig(manifest, name)
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

  Otherwise = Struct.new(:job, :active) do
    def else = active && yield
    def else_if_p(*names, &block) = active ? job.if_p(*names, &block) : self
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
print erb.result(Job.new(request["spec"], request["properties"]).binding_of_job)
